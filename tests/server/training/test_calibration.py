"""The scale in closed form against a search for it."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.training import calibration
from server.training.calibration import UNRATED_WEIGHT, calibrated, scale


def some_ratings(seed: int = 0, users: int = 12, items: int = 9) -> RatingMatrix:
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((users, items)) < 0.4)
    return RatingMatrix.from_triples(
        pairs[:, 0],
        pairs[:, 1],
        rng.integers(0, 5, len(pairs)),
        user_count=users,
        item_count=items,
        scale=RatingScale(1, 5, 1),
    )


@pytest.mark.parametrize("seed", range(5))
def test_no_other_number_is_better(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "PAIRS_PER_CHUNK", 7)
    ratings, rng = some_ratings(seed), np.random.default_rng(seed)
    users, items = rng.random((12, 3)), rng.random((9, 3)) - 0.2
    table = ratings.dense()

    def loss(number: float) -> float:
        errors = np.where(table > 0, 1, UNRATED_WEIGHT) * (number * users @ items.T - table) ** 2
        return float(errors.sum())

    best = minimize_scalar(loss, bounds=(0, 10), method="bounded", options={"xatol": 1e-9})
    assert scale(users, items, ratings) == pytest.approx(best.x, abs=1e-5)


def test_rankings_stay_and_factors_share_the_number() -> None:
    ratings, rng = some_ratings(), np.random.default_rng(0)
    users, items = rng.random((12, 3)), rng.random((9, 3))
    number = scale(users, items, ratings)
    scaled = calibrated(users, items, ratings)
    assert scaled[0].dtype == scaled[1].dtype == np.float32
    np.testing.assert_allclose(scaled[0] @ scaled[1].T, number * users @ items.T, rtol=1e-5)
    # Once more changes nothing.
    assert scale(*scaled, ratings) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        (np.ones((11, 3)), np.ones((9, 3)), "do not fit"),
        (np.ones((12, 3)), np.ones((9, 2)), "do not fit"),
        (np.full((12, 3), np.nan), np.ones((9, 3)), "not finite"),
        (np.ones((12, 3)), -np.ones((9, 3)), "predict nothing"),
        (np.zeros((12, 3)), np.ones((9, 3)), "predict nothing"),
    ],
)
def test_factors_that_cannot_be_are_refused(
    users: np.ndarray, items: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        calibrated(users, items, some_ratings())
