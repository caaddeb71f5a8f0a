"""Neighbor search against brute force, and what is handed out of it."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from server.recommending.inverted_lists import RECALL, RUNGS, InvertedLists, Rung
from server.recommending.neighbors import NeighborIndex


@st.composite
def embeddings(draw: st.DrawFn) -> NDArray[np.float32]:
    """Users on a coarse grid, so that twins and ties are frequent and distances exact."""
    users, width = draw(st.integers(1, 25)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    return rng.integers(-2, 3, (users, width)).astype(np.float32)


def squared_distances(table: NDArray[np.float32], user: int) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = ((table - table[user]) ** 2).sum(1)
    return distances


@given(embeddings(), st.data())
def test_neighbors_are_the_nearest_of_all(table: NDArray[np.float32], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(table)))
    found = NeighborIndex(table).neighbors(np.arange(len(table)), count)
    assert found.shape == (len(table), count)
    for user, row in enumerate(found):
        distances = squared_distances(table, user)
        assert row[0] == user, "a twin must not stand in the user's place"
        assert len(set(row.tolist())) == count
        # Which of equally near users are taken is open; how near they are is not.
        np.testing.assert_array_equal(distances[row], np.sort(distances)[:count])


@pytest.mark.parametrize(("users", "width", "count"), [(300, 64, 12), (300, 64, 150), (50, 5, 50)])
def test_neighbors_of_a_user_do_not_depend_on_who_else_is_asked_for(
    users: int, width: int, count: int
) -> None:
    table = np.random.default_rng(0).normal(size=(users, width)).astype(np.float32)
    table[users // 2 :] = table[: users // 2] + np.float32(1e-4)
    index = NeighborIndex(table)
    together = index.neighbors(np.arange(users), count)
    alone = np.concatenate([index.neighbors([user], count) for user in range(users)])
    np.testing.assert_array_equal(together, alone)


def test_everybody_is_a_neighbor_when_k_is_all() -> None:
    table = np.zeros((6, 2), dtype=np.float32)  # all twins
    found = NeighborIndex(table).neighbors([3, 0], 6)
    assert found[:, 0].tolist() == [3, 0]
    assert [sorted(row) for row in found.tolist()] == [list(range(6))] * 2


@pytest.mark.parametrize("count", [0, -1, 5])
def test_more_neighbors_than_users_or_none_are_refused(count: int) -> None:
    index = NeighborIndex(np.zeros((4, 2), dtype=np.float32))
    with pytest.raises(InputError, match=rf"k = {count} neighbors asked of 4 users: choose 1–4"):
        index.neighbors([0], count)


def clustered(users: int, *, clusters: int = 20, width: int = 16) -> NDArray[np.float32]:
    rng = np.random.default_rng(4)
    centers = rng.standard_normal((clusters, width))
    spread = 0.3 * rng.standard_normal((users, width))
    table: NDArray[np.float32] = (centers[rng.integers(0, clusters, users)] + spread).astype("f4")
    return table


@pytest.fixture(scope="module")
def in_lists() -> NeighborIndex:
    return NeighborIndex(clustered(4000), lists_from=0)


def test_inverted_lists_reach_the_recall_they_state(in_lists: NeighborIndex) -> None:
    exact = NeighborIndex(clustered(4000), lists_from=math.inf)
    assert not exact.rungs and exact.description == "exact search over 4000 users"
    # None of the users on whom the recall was measured is known here.
    users = np.arange(0, 4000, 9)
    for count, rung in zip(RUNGS, in_lists.rungs, strict=True):
        assert rung.neighbors == count and RECALL <= rung.recall <= 1
        assert 0 <= rung.lowest <= rung.recall
        assert f"k ≤ {count} in {rung.probes} with recall {rung.recall:.4f}" in (
            in_lists.description
        )
        found, true = in_lists.neighbors(users, count), exact.neighbors(users, count)
        assert (found[:, 0] == users).all()
        same = [np.isin(ours, theirs).mean() for ours, theirs in zip(found, true, strict=True)]
        assert np.mean(same) >= RECALL - 0.005
    # Otherwise they were an exact search, and this test could not fail.
    assert (in_lists.neighbors(users, 200) != exact.neighbors(users, 200)).any()


def test_more_neighbors_than_were_measured_are_searched_exactly(in_lists: NeighborIndex) -> None:
    exact = NeighborIndex(clustered(4000), lists_from=math.inf)
    for count in (RUNGS[-1] + 1, 4000):
        np.testing.assert_array_equal(
            in_lists.neighbors([7, 80], count), exact.neighbors([7, 80], count)
        )


def test_neighbors_in_lists_do_not_depend_on_who_else_is_asked_for(
    in_lists: NeighborIndex,
) -> None:
    together = in_lists.neighbors(np.arange(300), 100)
    alone = np.concatenate([in_lists.neighbors([user], 100) for user in range(300)])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("lists_from", [0, math.inf])
def test_many_threads_find_what_one_finds(lists_from: float) -> None:
    index = NeighborIndex(clustered(4000), lists_from=lists_from)
    expected = index.neighbors(np.arange(400), 100)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda user: index.neighbors([user], 100)[0], range(400)))
    np.testing.assert_array_equal(found, expected)


def test_the_same_embeddings_give_the_same_lists(in_lists: NeighborIndex) -> None:
    again = NeighborIndex(clustered(4000), lists_from=0)
    sent = copy.deepcopy(in_lists)  # as pickle does it
    users = np.arange(0, 4000, 40)
    for index in (again, sent):
        assert index.description == in_lists.description
        np.testing.assert_array_equal(index.neighbors(users, 100), in_lists.neighbors(users, 100))


def test_without_clusters_the_search_stays_exact() -> None:
    table = np.random.default_rng(0).random((2000, 64), dtype=np.float32)
    index = NeighborIndex(table, lists_from=0)
    assert index.rungs == ()
    assert index.description.startswith(
        "exact search over 2000 users, as inverted lists do not reach"
    )


def test_lists_with_too_few_users_are_no_answer() -> None:
    # Each user has 9 twins far from all others, so that a list may have fewer than 12.
    centers = 100 * np.random.default_rng(0).standard_normal((40, 8))
    table = np.repeat(centers, 10, axis=0).astype(np.float32)
    lists = InvertedLists(table, 40)
    lists.rungs = (Rung(12, 1, 1.0, 1.0),)
    short = [user for user in range(400) if lists.look(table[user][None], 12, 1)[1][-1] < 0]
    assert short
    for user in short:
        found = lists.search(user, 12).tolist()
        assert min(found) >= 0 and len(set(found)) == 12
        assert set(range(user // 10 * 10, user // 10 * 10 + 10)) < set(found)


@pytest.mark.parametrize("users", [1, 2, 15, 16, 60])
def test_few_users_need_no_lists(users: int) -> None:
    twins = NeighborIndex(np.zeros((users, 3), dtype=np.float32), lists_from=0)
    for user in (0, users - 1):
        found = twins.neighbors([user], users)[0]
        assert found[0] == user and sorted(found.tolist()) == list(range(users))


def test_embeddings_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        NeighborIndex(np.array([[0.0], [np.nan]], dtype=np.float32))


@pytest.mark.parametrize("lists_from", [0, math.inf])
@pytest.mark.parametrize("user", [-1, 400, 10**12])
def test_unknown_users_are_refused(user: int, lists_from: float) -> None:
    index = NeighborIndex(clustered(400), lists_from=lists_from)
    with pytest.raises(InputError, match=rf"unknown user {user}: choose 0–399"):
        index.neighbors([0, user], 3)
