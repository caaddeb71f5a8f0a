"""Nearest users by Euclidean distance between embeddings (paper, Algorithm 1, lines 7–11).

Few users are searched exactly, all of them one by one. From LISTS_FROM users on the search scans
the nearest inverted lists only, if that finds nearly all of the true neighbors
(server.recommending.inverted_lists).

Shapes: U users, real ones first, then whatever else was trained on; d embedding width.
"""

from typing import Final, final

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import InputError
from server.recommending.inverted_lists import RECALL, InvertedLists, Rung, measured_lists

# The smallest measured number of users at which inverted lists are faster than an exact search
# (benchmarks/serving/neighbors.py, docs/decisions/0012-neighbor-search.md).
LISTS_FROM: Final = 30_000


@final
class NeighborIndex:
    """Search over all users' embeddings, which it holds.

    lists_from  users from which inverted lists are tried; math.inf keeps the search exact
    """

    def __init__(self, embeddings: NDArray[np.float32], *, lists_from: float = LISTS_FROM) -> None:
        """Raises InputError for embeddings that are not finite."""
        table = np.ascontiguousarray(embeddings, dtype=np.float32)
        if not np.isfinite(table).all():
            raise InputError("user embeddings are not finite: train the model again")
        self._users = len(table)
        self._tried = self._users >= lists_from
        found = measured_lists(table) if self._tried else None
        self._search: InvertedLists | Exact = Exact(table) if found is None else found

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """How inverted lists are searched, and with what recall; empty for exact search."""
        return self._search.rungs if isinstance(self._search, InvertedLists) else ()

    @property
    def description(self) -> str:
        """One line on how neighbors are searched."""
        if isinstance(self._search, Exact):
            tried = (
                f", as inverted lists do not reach recall {RECALL} cheaply" if self._tried else ""
            )
            return f"exact search over {self._users} users{tried}"
        parts = [
            f"k ≤ {rung.neighbors} in {rung.probes} with recall {rung.recall:.4f} "
            f"(lowest {rung.lowest:.2f})"
            for rung in self.rungs
        ]
        lists = f"{self._users} users in {self._search.count} inverted lists"
        return f"{lists}: {', '.join(parts)}, above exact"

    def neighbors(self, users: ArrayLike, count: int) -> NDArray[np.int64]:
        """The `count` nearest users of each user, itself first, then by distance, [B, k].

        Raises InputError for an unknown user, and when there are fewer than `count` users.
        """
        asked = np.asarray(users, dtype=np.int64)
        total = self._users
        if not 1 <= count <= total:
            raise InputError(f"k = {count} neighbors asked of {total} users: choose 1–{total}")
        nearest = np.empty((len(asked), count), dtype=np.int64)
        for row, user in zip(nearest, asked.tolist(), strict=True):
            if not 0 <= user < total:
                raise InputError(f"unknown user {user}: choose 0–{total - 1}")
            # One by one: faiss computes distances of many queries at once in another way, and a
            # user's neighbors must not depend on who else is asked for.
            row[:] = with_user_first(user, self._search.search(user, count))
        return nearest


@final
class Exact:
    """Every user is looked at, in a table of embeddings [U, d]."""

    def __init__(self, embeddings: NDArray[np.float32]) -> None:
        self._index = faiss.IndexFlatL2(embeddings.shape[1])
        self._index.add(embeddings)

    def search(self, user: int, count: int) -> NDArray[np.int64]:
        """The `count` users nearest to one of them, nearest first, [k]."""
        query = np.asarray(self._index.reconstruct(user), dtype=np.float32)[None]
        found: NDArray[np.int64] = self._index.search(query, count)[1][0]
        return found


def with_user_first(user: int, found: NDArray[np.int64]) -> NDArray[np.int64]:
    """As many users as `found`, nearest first, has: the user itself, then others, [k].

    A twin at distance 0 may stand before the user, or push it out.
    """
    others = found[found != user]
    return np.concatenate([[user], others[: len(found) - 1]])
