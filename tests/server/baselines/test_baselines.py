"""Every baseline against a slow, obvious version; what all of them hold."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from server.baselines import BASELINES
from server.baselines import ease as ease_module
from server.baselines.ease import Ease
from server.baselines.itemknn import ItemKnn
from server.baselines.userknn import UserKnn
from tests.support.ratings import from_table


def random_table(seed: int, users: int, items: int, density: float = 0.3) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    rated = rng.random((users, items)) < density
    return np.where(rated, rng.integers(1, 6, (users, items)), 0)


TABLE = np.array(
    [
        [5, 3, 0, 0],
        [4, 1, 2, 0],
        [0, 5, 4, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 5],
    ]
)


def test_userknn_by_hand() -> None:
    # cos² with user 0 of two ratings: user 1 4/(2·3), user 2 1/(2·2), user 3 1/(2·1), user 4 0.
    model = UserKnn(from_table(TABLE), neighbors=2)
    assert model.nearest(0).tolist() == [1, 3]
    assert model.scores(0).tolist() == [2, 1, 1, 0]
    # Who shares no item is nobody's neighbor, however many are asked for.
    assert UserKnn(from_table(TABLE)).nearest(0).tolist() == [1, 3, 2]
    assert model.scores(4).tolist() == [0, 0, 0, 0]


def test_itemknn_by_hand() -> None:
    # n = 3, 3, 2, 1; item 2 shares one rater with item 0, two with item 1.
    model = ItemKnn(from_table(TABLE))
    expected = 1 / np.sqrt(6) + 2 / np.sqrt(6)
    assert model.scores(0)[2] == pytest.approx(expected, rel=1e-6)
    assert model.scores(0)[3] == 0
    # Of item 2 only the nearest, item 1, counts.
    assert ItemKnn(from_table(TABLE), neighbors=1).scores(0)[2] == pytest.approx(2 / np.sqrt(6))


def test_popularity_counts_raters() -> None:
    assert BASELINES["popularity"](from_table(TABLE)).scores(0).tolist() == [3, 3, 2, 1]


def constrained_least_squares(rated: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """EASE's B, a column at a time, its diagonal left out of the unknowns."""
    items = rated.shape[1]
    weights = np.zeros((items, items))
    for item in range(items):
        others = np.delete(np.arange(items), item)
        part = rated[:, others]
        gram = part.T @ part + penalty * np.eye(items - 1)
        weights[others, item] = np.linalg.solve(gram, part.T @ rated[:, item])
    return weights


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 12), st.integers(2, 12), st.floats(0.1, 50))
def test_ease_is_the_constrained_least_squares(
    seed: int, users: int, items: int, penalty: float
) -> None:
    table = random_table(seed, users, items)
    rated = (table > 0).astype(np.float64)
    model = Ease(from_table(table), penalty=penalty)
    expected = rated @ constrained_least_squares(rated, penalty)
    scores = np.array([model.scores(user) for user in range(users)])
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_ease_by_users_is_the_same_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = from_table(random_table(4, 13, 30))
    whole = Ease(ratings)
    monkeypatch.setattr(ease_module, "USERS_PER_CHUNK", 5)
    parts = Ease(ratings)
    for user in range(13):
        np.testing.assert_allclose(parts.scores(user), whole.scores(user), rtol=1e-5, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 12), st.integers(2, 12), st.integers(1, 14))
def test_neighbors_of_items_and_users(seed: int, users: int, items: int, neighbors: int) -> None:
    table = random_table(seed, users, items)
    rated = (table > 0).astype(np.float64)

    def cosines(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        norms = np.maximum(np.linalg.norm(rows, axis=1), 1)
        similar = rows @ rows.T / norms[:, None] / norms
        np.fill_diagonal(similar, 0)
        # The k largest of a row, equal ones by index; what is 0 adds nothing.
        for row in similar:
            order = sorted(range(len(row)), key=lambda at: (-round(row[at], 9), at))
            row[order[neighbors:]] = 0
        return np.asarray(similar)

    ratings = from_table(table)
    of_users, of_items = (
        UserKnn(ratings, neighbors=neighbors),
        ItemKnn(ratings, neighbors=neighbors),
    )
    votes = (cosines(rated) > 0) @ rated
    sums = rated @ cosines(rated.T).T
    for user in range(users):
        np.testing.assert_allclose(of_users.scores(user), votes[user], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(of_items.scores(user), sums[user], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", BASELINES)
class TestEvery:
    def test_scores_are_finite_numbers_of_every_item(self, name: str) -> None:
        table = random_table(0, 30, 20)
        table[3], table[:, 5] = 0, 0  # a user who rated nothing, an item that nobody rated
        model = BASELINES[name](from_table(table))
        for user in range(30):
            scores = model.scores(user)
            assert scores.dtype == np.float32
            assert scores.shape == (20,)
            assert np.isfinite(scores).all()

    def test_same_ratings_same_scores_and_none_is_lent_twice(self, name: str) -> None:
        ratings = from_table(random_table(1, 15, 25))
        first, second = BASELINES[name](ratings), BASELINES[name](ratings)
        scores = first.scores(2)
        kept = scores.copy()
        scores[:] = 7
        assert np.array_equal(first.scores(2), kept)
        assert np.array_equal(second.scores(2), kept)

    def test_only_what_was_rated_counts(self, name: str) -> None:
        table = random_table(2, 15, 10)
        other = np.where(table > 0, 6 - table, 0)
        first, second = BASELINES[name](from_table(table)), BASELINES[name](from_table(other))
        assert np.array_equal(first.scores(4), second.scores(4))

    def test_travels_to_another_process(self, name: str) -> None:
        model = BASELINES[name](from_table(random_table(3, 8, 9)))
        there = pickle.loads(pickle.dumps(model))  # noqa: S301 - as a pool of processes does
        assert np.array_equal(there.scores(1), model.scores(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda ratings: UserKnn(ratings, neighbors=0),
        lambda ratings: ItemKnn(ratings, neighbors=0),
        lambda ratings: Ease(ratings, penalty=0),
        lambda ratings: Ease(ratings, penalty=float("nan")),
    ],
)
def test_an_impossible_option_is_refused(make: Callable[[RatingMatrix], object]) -> None:
    with pytest.raises(InputError, match="must be"):
        make(from_table(TABLE))


def test_ease_refuses_a_table_that_it_cannot_invert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease_module, "MOST", 3)
    with pytest.raises(InputError, match=r"5 users × 4 items.*at most 3; take itemknn or ials"):
        Ease(from_table(TABLE))


def test_ease_asks_for_memory_before_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = from_table(np.ones((600, 500), dtype=np.int64))
    free = 8 * 500**2
    monkeypatch.setattr(ease_module, "available_memory", lambda: free)
    assert Ease(ratings).scores(0).shape == (500,)
    monkeypatch.setattr(ease_module, "available_memory", lambda: free - 1)
    monkeypatch.setattr(ease_module, "incidence", None)
    with pytest.raises(InputError, match=r"500 × 500 numbers takes 1 MiB, and 1 MiB are free"):
        Ease(ratings)
