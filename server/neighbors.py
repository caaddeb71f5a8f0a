"""Nearest users by Euclidean distance between embeddings (paper, Algorithm 1, lines 7–11).

Shapes: U users, real ones first, then whatever else was trained on; d embedding width.
"""

from typing import final

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import InputError


@final
class NeighborIndex:
    """Exact search over all users' embeddings."""

    def __init__(self, embeddings: NDArray[np.float32]) -> None:
        self._embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
        self._index = faiss.IndexFlatL2(embeddings.shape[1])
        self._index.add(self._embeddings)

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
            _, found = self._index.search(self._embeddings[user : user + 1], count)
            # A twin at distance 0 may stand before the user itself, or push it out.
            others = found[0][found[0] != user]
            row[0], row[1:] = user, others[: count - 1]
        return nearest
