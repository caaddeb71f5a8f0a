"""Lists of neighbors under keys: right for their version, bounded, whole under threads."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from numpy.typing import NDArray

from server.recommending.neighbor_cache import NeighborCache

Neighbors = NDArray[np.int64]


def listing(*users: int) -> Callable[[], Neighbors]:
    return lambda: np.array(users)


def refusing() -> Neighbors:
    raise AssertionError("the list was here")


def test_a_list_is_found_once() -> None:
    cache = NeighborCache()
    first = cache.get("a", 3, 2, listing(3, 5))
    assert cache.get("a", 3, 2, refusing) is first
    assert (cache.hits, cache.misses, len(cache)) == (1, 1, 1)


def test_another_version_user_or_k_is_another_list() -> None:
    cache = NeighborCache()
    cache.get("a", 3, 2, listing(3, 5))
    assert cache.get("b", 3, 2, listing(3, 6)).tolist() == [3, 6]
    assert cache.get("a", 4, 2, listing(4, 5)).tolist() == [4, 5]
    assert cache.get("a", 3, 3, listing(3, 5, 6)).tolist() == [3, 5, 6]
    # A version that is still served keeps its lists.
    assert cache.get("a", 3, 2, refusing).tolist() == [3, 5]
    assert (cache.hits, cache.misses) == (1, 4)


def test_the_least_recently_used_leaves() -> None:
    cache = NeighborCache(capacity=3 * 16)
    for user in range(3):
        cache.get("a", user, 2, listing(user, 9))
    cache.get("a", 0, 2, refusing)
    cache.get("b", 0, 2, listing(0, 8))
    assert len(cache) == 3
    assert cache.get("a", 0, 2, refusing).tolist() == [0, 9]
    assert cache.get("a", 2, 2, refusing).tolist() == [2, 9]
    assert cache.get("a", 1, 2, listing(1, 7)).tolist() == [1, 7]


@pytest.mark.parametrize("capacity", [0, 15])
def test_a_list_larger_than_the_cache_is_not_kept(capacity: int) -> None:
    cache = NeighborCache(capacity)
    for _ in range(2):
        assert cache.get("a", 0, 2, listing(0, 1)).tolist() == [0, 1]
    assert (cache.hits, cache.misses, len(cache)) == (0, 2, 0)


def test_a_list_cannot_be_changed_and_keeps_only_itself() -> None:
    cache, table = NeighborCache(), np.arange(1000).reshape(10, 100)
    found = cache.get("a", 0, 100, lambda: table[0])
    table[:] = -1
    assert found.base is None and found.tolist() == list(range(100))
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_what_cannot_be_found_is_not_kept() -> None:
    cache = NeighborCache()
    with pytest.raises(AssertionError):
        cache.get("a", 0, 2, refusing)
    assert len(cache) == 0
    assert cache.get("a", 0, 2, listing(0, 1)).tolist() == [0, 1]


def test_threads_get_the_lists_of_their_keys() -> None:
    # So small that lists leave all the time.
    cache, asked = NeighborCache(capacity=20 * 24), 3000
    versions, together = ("a", "b"), Barrier(8)

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        together.wait()
        for version, user in rng.integers(0, (2, 40), (asked, 2)).tolist():
            expected = [user, version, user + version]
            found = cache.get(versions[version], user, 3, listing(*expected))
            assert found.tolist() == expected

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert cache.hits + cache.misses == 8 * asked
    assert cache.hits > 0 and len(cache) == 20


def test_threads_that_miss_together_keep_one_list() -> None:
    cache, both = NeighborCache(), Barrier(2, timeout=30)

    def find() -> Neighbors:
        both.wait()  # each thread is past the look-up that missed
        return np.array([0, 1])

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: cache.get("a", 0, 2, find), range(2)))
    assert [one.tolist() for one in found] == [[0, 1]] * 2
    assert (cache.hits, cache.misses, len(cache)) == (0, 2, 1)
    assert cache.get("a", 0, 2, refusing).tolist() == [0, 1]


def test_another_process_gets_an_empty_cache() -> None:
    cache = NeighborCache(capacity=100)
    cache.get("a", 0, 2, listing(0, 1))
    sent = copy.deepcopy(cache)  # as pickle does it
    assert (sent.capacity, len(sent), sent.misses) == (100, 0, 0)
    assert sent.get("a", 0, 2, listing(0, 5)).tolist() == [0, 5]
