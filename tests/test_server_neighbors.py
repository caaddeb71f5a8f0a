"""Neighbor search against brute force, and what is handed out of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from server.neighbors import NeighborIndex


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
