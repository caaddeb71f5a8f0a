"""Nearest users by Euclidean distance between embeddings (paper, Algorithm 1, lines 7–11).

Few users are searched exactly, all of them one by one. From CELLS_FROM users on the search looks
into the nearest cells only, if that finds nearly all of the true neighbors (server.cells).

Shapes: U users, real ones first, then whatever else was trained on; d embedding width.
"""

from typing import Final, final

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import InputError
from server.cells import RECALL, Rung, measured_cells

# Below this many users an exact search takes less than a tenth of what a request takes
# (docs/decisions/0012-neighbor-search.md).
CELLS_FROM: Final = 50_000


@final
class NeighborIndex:
    """Search over all users' embeddings.

    cells_from  users from which cells are tried; math.inf keeps the search exact
    """

    def __init__(self, embeddings: NDArray[np.float32], *, cells_from: float = CELLS_FROM) -> None:
        """Raises InputError for embeddings that are not finite."""
        self._embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
        if not np.isfinite(self._embeddings).all():
            raise InputError("user embeddings are not finite: train the model again")
        self._tried = len(embeddings) >= cells_from
        self._cells = measured_cells(self._embeddings) if self._tried else None
        self._flat = None
        if self._cells is None:
            self._flat = faiss.IndexFlatL2(embeddings.shape[1])
            self._flat.add(self._embeddings)

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """How neighbors are searched in cells, and with what recall; empty for exact search."""
        return () if self._cells is None else self._cells.rungs

    @property
    def description(self) -> str:
        """One line on how neighbors are searched."""
        users = len(self._embeddings)
        if self._cells is None:
            tried = f", as cells do not reach recall {RECALL} cheaply" if self._tried else ""
            return f"exact search over {users} users{tried}"
        parts = [
            f"k ≤ {rung.neighbors} in {rung.probes} with recall {rung.recall:.4f} "
            f"(lowest {rung.lowest:.2f})"
            for rung in self.rungs
        ]
        return f"{users} users in {self._cells.count} cells: {', '.join(parts)}, above exact"

    def neighbors(self, users: ArrayLike, count: int) -> NDArray[np.int64]:
        """The `count` nearest users of each user, itself first, then by distance, [B, k].

        Raises InputError when there are fewer than `count` users.
        """
        asked = np.asarray(users, dtype=np.int64)
        total = len(self._embeddings)
        if not 1 <= count <= total:
            raise InputError(f"k = {count} neighbors asked of {total} users: choose 1–{total}")
        nearest = np.empty((len(asked), count), dtype=np.int64)
        for row, user in zip(nearest, asked.tolist(), strict=True):
            # One by one: faiss computes distances of many queries at once in another way, and a
            # user's neighbors must not depend on who else is asked for.
            row[:] = with_user_first(user, self._search(self._embeddings[user : user + 1], count))
        return nearest

    def _search(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        if self._cells is not None:
            return self._cells.search(query, count)
        assert self._flat is not None
        found: NDArray[np.int64] = self._flat.search(query, count)[1][0]
        return found


def with_user_first(user: int, found: NDArray[np.int64]) -> NDArray[np.int64]:
    """As many users as `found`, nearest first, has: the user itself, then others, [k].

    A twin at distance 0 may stand before the user, or push it out.
    """
    others = found[found != user]
    return np.concatenate([[user], others[: len(found) - 1]])
