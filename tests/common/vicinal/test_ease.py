"""EASE on a neighborhood against the closed form as it is written, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.models import CLOSED_FORM, MODELS
from common.vicinal.ease import ease_scores
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import PRESETS, VicinalSettings
from common.vicinal.slim import slim_model, slim_scores, slim_shapes
from common.vicinal.tuning import ServedModel, tuned_scores
from common.wire import offload_pb2 as wire
from common.wire.slim import slim_to_wire
from tests.support.ratings import from_table

PRESET = PRESETS["ease"]["vicinal"]
SERVED = ServedModel(CLOSED_FORM["ease"], {})


def as_written(rows: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """x₀ B with B_ij = −P_ij / P_jj off the diagonal, of a P over all items, [I]."""
    inverse = np.linalg.inv(rows.T @ rows + penalty * np.eye(rows.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    scores: NDArray[np.float64] = rows[0] @ weights
    return scores


@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 40),
    items=st.integers(1, 40),
    penalty=st.floats(0.5, 1000),
    density=st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_it_is_the_closed_form(
    seed: int, k: int, items: int, penalty: float, density: float
) -> None:
    rated = np.random.default_rng(seed).random((k, items)) < density
    found = ease_scores(from_table(rated), penalty)
    np.testing.assert_allclose(found, as_written(rated.astype(float), penalty), atol=1e-6)


def test_by_hand() -> None:
    # XᵀX + 1 = [[3, 1], [1, 2]], P = [[2, −1], [−1, 3]] / 5, so B_01 = 1/3 and B_10 = 1/2; user 0
    # has rated item 0 alone, and items 2 and 3 are nobody's.
    rated = np.array([[1, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
    np.testing.assert_allclose(ease_scores(from_table(rated), 1.0), [0, 1 / 3, 0, 0], atol=1e-7)
    # Three touched items and two rows go through rows: A = [[3, 1], [1, 4]] with λ = 1.
    rated = np.array([[1, 1, 0], [1, 0, 1]], dtype=bool)
    found = ease_scores(from_table(rated), 1.0)
    np.testing.assert_allclose(found, as_written(rated.astype(float), 1.0), atol=1e-7)
    assert found[2] == pytest.approx(0.2)


def test_how_highly_somebody_rated_does_not_count() -> None:
    rated = np.random.default_rng(3).random((9, 20)) < 0.4
    low, high = (
        tuned_scores(SERVED, Neighborhood(from_table((level + 1) * rated), {}), PRESET)
        for level in (0, 4)
    )
    np.testing.assert_array_equal(low, high)


def test_what_nobody_rated_ranks_last() -> None:
    rated = np.random.default_rng(4).random((9, 20)) < 0.4
    rated[:, 7] = False
    scores = tuned_scores(SERVED, Neighborhood(from_table(rated), {}), PRESET)
    assert np.isfinite(scores).all() and scores.argmin() == 7


def test_a_slim_device_needs_no_part_of_a_model() -> None:
    rows = Neighborhood(from_table(np.random.default_rng(5).random((9, 20)) < 0.4), {})
    part = slim_model(SERVED, rows.ratings)
    assert not part.rows and not part.shared
    assert slim_shapes(SERVED.model, 20, 1) == ({}, {})
    assert slim_to_wire(part, rows.ratings, np.arange(20, dtype=np.int32), shared=True) == (
        wire.SlimModel(),
        {},
    )
    np.testing.assert_array_equal(
        slim_scores(SERVED.model, part, rows, PRESET), tuned_scores(SERVED, rows, PRESET)
    )


def test_a_model_without_parameters_is_solved_and_no_other() -> None:
    rows = Neighborhood(from_table(np.ones((2, 3), dtype=bool)), {})
    with pytest.raises(InputError, match="ease has no fine-tune by the step rule curvature"):
        tuned_scores(SERVED, rows, VicinalSettings(2, 0.0, 1))
    item_table = {"item_embedding": np.ones((3, 1), dtype=np.float32)}
    with pytest.raises(InputError, match="mf has no fine-tune by the step rule closed-form"):
        tuned_scores(ServedModel(MODELS["mf"], item_table), rows, PRESET)


@pytest.mark.parametrize("wrong", [{"steps": 1}, {"unrated_weight": 0.1}, {"proximal_weight": 0.0}])
def test_settings_that_a_closed_form_does_not_have(wrong: dict[str, float]) -> None:
    given_: dict[str, object] = {"steps": 0, "unrated_weight": 0.0, "proximal_weight": 1.0, **wrong}
    with pytest.raises(InputError, match="a closed form takes no steps"):
        VicinalSettings(neighbors=2, step_rule="closed-form", **given_)  # type: ignore[arg-type]
