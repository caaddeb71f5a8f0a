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
        _, found = self._index.search(self._embeddings[asked], count)
        for row, user in zip(found, asked, strict=True):
            # A twin at distance 0 may stand before the user itself, or push it out.
            place = np.flatnonzero(row == user)
            end = int(place[0]) if len(place) else count - 1
            row[1 : end + 1] = row[:end].copy()
            row[0] = user
        return found
