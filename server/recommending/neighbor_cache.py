"""Lists of neighbors that were found before (paper, "Efficiency Analysis", second point).

A list is found in a model version's embeddings or in the ratings that it was trained on, which
never change: a list is right for as long as its version is served, so entries have no age. Another
version, or another space, is another key, and lists that nobody asks for leave as the least
recently used.

Shapes: k neighbors.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

Neighbors = NDArray[np.int64]

# 64 MiB hold the lists of 40,000 users at k = 200.
CAPACITY_BYTES: Final = 64 << 20


@final
class NeighborCache:
    """Lists by version, user and number of neighbors; safe to use from many threads.

    capacity  bytes of all lists together
    hits      lists that were there; `misses` those that had to be found
    """

    def __init__(self, capacity: int = CAPACITY_BYTES) -> None:
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._lists: OrderedDict[tuple[str, int, int], Neighbors] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, version: str, user: int, count: int, find: Callable[[], Neighbors]) -> Neighbors:
        """The list under this key, from `find` if it is not here; read-only, [k].

        `version` names everything but user and count that decides a list. Threads that miss at
        the same time each call `find`, outside the lock.
        """
        key = version, user, count
        with self._lock:
            known = self._lists.get(key)
            if known is not None:
                self._lists.move_to_end(key)
                self.hits += 1
                return known
            self.misses += 1
        # Its own memory: a view would keep all that it is a view of.
        found = find().copy()
        found.setflags(write=False)
        with self._lock:
            if key not in self._lists:
                self._lists[key] = found
                self._bytes += found.nbytes
            while self._bytes > self.capacity:
                self._bytes -= self._lists.popitem(last=False)[1].nbytes
        return found

    def __len__(self) -> int:
        with self._lock:
            return len(self._lists)

    def __reduce__(self) -> tuple[type["NeighborCache"], tuple[int]]:
        """Another process gets an empty cache: a lock cannot be sent, and lists need not be."""
        return NeighborCache, (self.capacity,)
