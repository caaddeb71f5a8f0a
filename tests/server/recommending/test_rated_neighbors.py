"""Neighbors by rated items against fractions compared exactly, and what comes of support."""

import copy
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.recommending import rating_lists as layout
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


@st.composite
def many_rows(draw: st.DrawFn) -> NDArray[np.bool_]:
    """Users of several blocks of 64, items of every popularity, [U, I]."""
    users, items = draw(st.integers(60, 300)), draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    skew = draw(st.sampled_from([0.5, 2.0, 8.0]))
    rated: NDArray[np.bool_] = rng.random((users, items)) < rng.random(items) ** skew
    return rated


@pytest.mark.parametrize(
    ("popular", "share"), [(2.0, 0.5), (1 / 64, 0.5), (0.3, 100.0), (0, 100.0)]
)
@given(many_rows())
def test_blocks_and_bitmaps_find_the_same(
    popular: float, share: float, rated: NDArray[np.bool_]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK", 64)
        defaults = {"popular": popular, "memory_share": share}
        patch.setattr(layout.rating_lists, "__kwdefaults__", defaults)
        index = RatedNeighborIndex(matrix(rated))
    shared = rated.astype(np.int64) @ rated.T
    keys = shared**2 / np.maximum(rated.sum(1), 1)
    np.fill_diagonal(keys, np.inf)
    expected = np.argsort(-keys, axis=1, kind="stable")
    for user in (0, len(rated) - 1):
        found = index.neighbors([user], len(rated))[0]
        np.testing.assert_array_equal(found, expected[user])


def test_ratings_decide_how_they_are_laid_out() -> None:
    rng = np.random.default_rng(0)
    dense = layout.rating_lists(matrix(rng.random((500, 40)) < 0.5), memory_share=10)
    assert (dense.bitmaps.shape, len(dense.raters), dense.block) == ((1, 40, 8), 0, 512)
    assert dense.nbytes == 40 * 4 + 8 + 40 * 64
    few = RatingMatrix.from_triples(
        np.arange(70_000), np.zeros(70_000), np.zeros(70_000),
        user_count=70_000, item_count=100_000, scale=SCALE,
    )  # fmt: skip
    sparse = layout.rating_lists(few, popular=2)
    assert (sparse.block, sparse.raters.itemsize) == (70_016, 4)
    found = RatedNeighborIndex(few).neighbors([69_999], 4)
    assert found.tolist() == [[69_999, 0, 1, 2]]


@given(incidences(), st.data())
def test_an_updated_index_is_a_new_one(rated: NDArray[np.bool_], data: st.DataObject) -> None:
    users, items = rated.shape
    index = RatedNeighborIndex(matrix(rated))
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    with pytest.MonkeyPatch.context() as patch:
        share = data.draw(st.sampled_from([0.3, 1.0]))
        patch.setattr("server.recommending.rated_neighbors.CHANGED_SHARE", share)
        for _ in range(3):
            users, items = users + int(rng.integers(0, 70)), items + int(rng.integers(0, 2))
            later = np.zeros((users, items), dtype=bool)
            later[: len(rated), : rated.shape[1]] = rated
            for user in rng.integers(0, users, int(rng.integers(0, 4))):
                later[user] = rng.random(items) < 0.5
            index, rated = index.updated(matrix(later)), later
            count = data.draw(st.integers(1, users))
            for user in rng.integers(0, users, 3).tolist():
                expected = by_fractions(rated, user)[:count]
                assert index.neighbors([user], count)[0].tolist() == expected


def test_an_update_leaves_the_lists_and_the_index_before_it_alone() -> None:
    rated = np.random.default_rng(0).random((200, 30)) < 0.3
    index = RatedNeighborIndex(matrix(rated))
    before = index.neighbors(np.arange(200), 20)
    later = np.vstack([rated, rated[7]])
    updated = index.updated(matrix(later))
    assert updated.neighbors([7], 2).tolist() == [[7, 200]]
    assert updated._lists is index._lists
    np.testing.assert_array_equal(index.neighbors(np.arange(200), 20), before)
    fewer = updated.updated(matrix(rated[:100, :20]))
    expected = RatedNeighborIndex(matrix(rated[:100, :20])).neighbors(np.arange(100), 20)
    np.testing.assert_array_equal(fewer.neighbors(np.arange(100), 20), expected)


def test_an_index_is_sent_to_other_processes_and_asked_in_threads() -> None:
    rated = np.random.default_rng(1).random((300, 50)) < 0.3
    index = RatedNeighborIndex(matrix(rated))
    expected = index.neighbors(np.arange(300), 30)
    copied = copy.deepcopy(index)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda user: copied.neighbors([user], 30)[0], range(300)))
    np.testing.assert_array_equal(np.array(found), expected)


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
    assert found[7, :6].tolist() == [7, 46, 9, 1, 29, 34], "the same on every machine"
    first = np.argsort(found, axis=1)
    assert abs(np.corrcoef(first[:, 1:].ravel(), np.tile(np.arange(1, 50), 50))[0, 1]) < 0.1


def test_users_who_are_added_do_not_reorder_random_neighbors() -> None:
    few, many = (matrix(np.ones((users, 1), dtype=bool)) for users in (30, 60))
    before = RandomNeighborIndex(few).neighbors([3], 30)[0]
    after = RandomNeighborIndex(many).neighbors([3], 60)[0]
    np.testing.assert_array_equal(after[after < 30], before)
