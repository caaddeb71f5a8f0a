"""UserKNN: what the most similar users rated (Resnick et al. 1994, in the form for implicit
feedback of Aiolli 2013, "Efficient Top-N Recommendation …", section 3.1, with equal weights).

    cos(u, v) = n_uv / √(n_u n_v)        n_uv items that both rated
    ŝ_ui = number of the k nearest users who rated i

Shapes: U users, I items, k neighbors.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from server.baselines.incidence import incidence

NEIGHBORS: Final = 40


@final
class UserKnn:
    """Scores an item by the votes of the nearest users.

    neighbors  k, the user itself not among them; fewer where fewer share an item with the user

    Raises InputError for k < 1.
    """

    def __init__(self, ratings: RatingMatrix, *, neighbors: int = NEIGHBORS) -> None:
        if neighbors < 1:
            raise InputError(f"userknn: k must be at least 1, got {neighbors}")
        self.neighbors = neighbors
        self._rated = incidence(ratings)
        self._rated_by = self._rated.T.tocsr()
        self._row_lengths = np.maximum(np.diff(ratings.indptr), 1)

    def nearest(self, user: int) -> NDArray[np.int64]:
        """The users most similar to one, best first, equal ones by index; at most k of them."""
        rows = self._rated
        own = rows.indices[rows.indptr[user] : rows.indptr[user + 1]]
        shared = np.asarray(self._rated_by[own].sum(axis=0)).ravel()
        shared[user] = 0
        candidates = np.flatnonzero(shared)
        # The user's own length is in every cosine, and the square leaves the order as it is.
        similarity = shared[candidates] ** 2 / self._row_lengths[candidates]
        order = np.argsort(-similarity, kind="stable")[: self.neighbors]
        return candidates[order]

    def scores(self, user: int) -> NDArray[np.float32]:
        """Votes for every item, [I]."""
        votes = self._rated[self.nearest(user)].sum(axis=0)
        return np.asarray(votes, dtype=np.float32).ravel()
