"""Neighbors by rated items against fractions compared exactly, and what comes of support."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.recommending.rated_neighbors import (
    RandomNeighborIndex,
    RatedNeighborIndex,
    supporting,
)

SCALE = RatingScale(1, 5, 1)
INDICES = (RatedNeighborIndex, RandomNeighborIndex)


def matrix(rated: NDArray[np.bool_]) -> RatingMatrix:
    users, items = np.nonzero(rated)
    return RatingMatrix.from_triples(
        users,
        items,
        (users + items) % 5,
        user_count=rated.shape[0],
        item_count=rated.shape[1],
        scale=SCALE,
    )


@st.composite
def incidences(draw: st.DrawFn) -> NDArray[np.bool_]:
    """Who rated what, [U, I]: often with twins, and with users and items without a rating."""
    users, items = draw(st.integers(1, 30)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    chance = draw(st.sampled_from([0.05, 0.3, 0.8]))
    rated: NDArray[np.bool_] = rng.random((users, items)) < chance
    return rated


def by_fractions(rated: NDArray[np.bool_], user: int) -> list[int]:
    """The user, then all others by n_uv² / n_v and index."""

    def key(other: int) -> tuple[bool, Fraction, int]:
        shared, length = int((rated[user] & rated[other]).sum()), int(rated[other].sum())
        return other != user, -Fraction(shared**2, max(length, 1)), other

    return sorted(range(len(rated)), key=key)


@given(incidences(), st.data())
def test_neighbors_are_the_most_similar_of_all(
    rated: NDArray[np.bool_], data: st.DataObject
) -> None:
    users = len(rated)
    count = data.draw(st.integers(1, users))
    found = RatedNeighborIndex(matrix(rated)).neighbors(np.arange(users), count)
    assert found.dtype == np.int64
    expected = [by_fractions(rated, user)[:count] for user in range(users)]
    np.testing.assert_array_equal(found, np.array(expected).reshape(users, count))


@given(incidences(), st.data())
def test_an_order_is_taken_until_enough_items_have_support(
    rated: NDArray[np.bool_], data: st.DataObject
) -> None:
    users, items = rated.shape
    order = np.array(data.draw(st.permutations(range(users))), dtype=np.int64)
    order = order[: data.draw(st.integers(0, users))]
    unrated = ~rated[data.draw(st.integers(0, users - 1))]
    support, wanted = data.draw(st.integers(1, 6)), data.draw(st.integers(1, items))
    supported = (np.cumsum(rated[order][:, unrated], axis=0) >= support).sum(1) >= wanted
    expected = int(np.flatnonzero(supported)[0]) + 1 if supported.any() else len(order)
    assert supporting(matrix(rated), order, unrated, support, wanted) == expected


def test_support_refuses_what_is_not_there() -> None:
    ratings = matrix(np.ones((2, 3), dtype=bool))
    order, unrated = np.array([0, 1]), np.ones(3, dtype=bool)
    with pytest.raises(InputError, match="support 0 of 1 items: both must be at least 1"):
        supporting(ratings, order, unrated, 0, 1)
    with pytest.raises(InputError, match="unknown user in an order: choose 0–1"):
        supporting(ratings, np.array([2]), unrated, 1, 1)
    with pytest.raises(InputError, match=r"unrated items: \(2,\), not \(3,\)"):
        supporting(ratings, order, unrated[:2], 1, 1)


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("count", [0, -1, 5])
def test_more_neighbors_than_users_or_none_are_refused(
    kind: type[RatedNeighborIndex | RandomNeighborIndex], count: int
) -> None:
    index = kind(matrix(np.ones((4, 2), dtype=bool)))
    with pytest.raises(InputError, match=rf"k = {count} neighbors asked of 4 users: choose 1–4"):
        index.neighbors([0], count)


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("user", [-1, 4])
def test_unknown_users_are_refused(
    kind: type[RatedNeighborIndex | RandomNeighborIndex], user: int
) -> None:
    index = kind(matrix(np.ones((4, 2), dtype=bool)))
    with pytest.raises(InputError, match=f"unknown user {user}: choose 0–3"):
        index.neighbors([0, user], 2)


def test_random_neighbors_are_all_users_in_an_order_of_each_users_own() -> None:
    ratings = matrix(np.ones((50, 2), dtype=bool))
    found = RandomNeighborIndex(ratings).neighbors(np.arange(50), 50)
    assert found[:, 0].tolist() == list(range(50))
    assert (np.sort(found, axis=1) == np.arange(50)).all()
    assert len({tuple(row[1:6]) for row in found.tolist()}) == 50
    assert found[7, :6].tolist() == [7, 19, 41, 30, 12, 36], "the same on every machine"
    first = np.argsort(found, axis=1)
    assert abs(np.corrcoef(first[:, 1:].ravel(), np.tile(np.arange(1, 50), 50))[0, 1]) < 0.1


def test_users_who_are_added_do_not_reorder_random_neighbors() -> None:
    few, many = (matrix(np.ones((users, 1), dtype=bool)) for users in (30, 60))
    before = RandomNeighborIndex(few).neighbors([3], 30)[0]
    after = RandomNeighborIndex(many).neighbors([3], 60)[0]
    np.testing.assert_array_equal(after[after < 30], before)
