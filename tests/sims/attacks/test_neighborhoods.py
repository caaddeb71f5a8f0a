"""Neighbors by ratings are those of the full table of cosines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ratings import RatingMatrix
from server.data.synthetic import synthetic
from sims.attacks import neighborhoods
from sims.attacks.neighborhoods import nearest_by_ratings, times_listed


def cosine_table(ratings: RatingMatrix) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """n_uv / √(n_u n_v), pair by pair; −1 for oneself."""
    rows = [set(ratings.items_of(user).tolist()) for user in range(ratings.user_count)]
    table = [
        [len(one & two) / np.sqrt(max(len(one), 1) * max(len(two), 1)) for two in rows]
        for one in rows
    ]
    return np.array(table) - 2 * np.eye(len(rows))


@given(st.integers(0, 1000), st.integers(2, 40), st.integers(1, 39))
def test_neighbors_by_ratings_are_those_of_the_full_table(
    seed: int, users: int, count: int
) -> None:
    count = min(count, users - 1)
    ratings = synthetic(users, 25, min(users * 6, users * 20), seed=seed)
    nearest, cosines = nearest_by_ratings(ratings, count)
    table = cosine_table(ratings)
    np.testing.assert_allclose(cosines, -np.sort(-table, axis=1)[:, :count], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(table, nearest, axis=1), cosines, atol=1e-6)
    assert (nearest != np.arange(users)[:, None]).all()


def test_a_few_users_at_once_give_what_all_at_once_do(monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = synthetic(50, 30, seed=3)
    whole = nearest_by_ratings(ratings, 7)[0]
    monkeypatch.setattr(neighborhoods, "USERS_AT_ONCE", 9)
    np.testing.assert_array_equal(whole, nearest_by_ratings(ratings, 7)[0])


def test_hubs_by_ratings_are_counted() -> None:
    ratings = synthetic(40, 30, seed=1)
    listed = times_listed(ratings, 6, space="ratings")
    order = np.argsort(-cosine_table(ratings).astype(np.float32), axis=1, kind="stable")[:, :5]
    assert listed.sum() == 40 * 5
    # Equal cosines may be rounded apart.
    assert np.abs(listed - np.bincount(order.ravel(), minlength=40)).sum() <= 8
