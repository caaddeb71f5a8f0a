"""ItemKNN: what resembles the items that a user rated (Sarwar et al. 2001, section 3.1; Deshpande
and Karypis 2004, "Item-Based Top-N Recommendation Algorithms", section 4).

    cos(i, j) = n_ij / √(n_i n_j)              n_ij users who rated both
    ŝ_ui = Σ_{j ∈ N_u ∩ S_i} cos(i, j)         N_u the items that u rated, S_i the k nearest of i

Shapes: U users, I items, k neighbors.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from common.errors import InputError
from common.ratings import RatingMatrix
from server.baselines.incidence import incidence

# Chosen on validation items (docs/decisions/0022-baselines.md).
NEIGHBORS: Final = 20
# Items whose cosines with all others are held at a time: 120 MB at 59,000 items.
ITEMS_PER_CHUNK: Final = 256


@final
class ItemKnn:
    """Scores an item by its similarity to what the user rated.

    neighbors  k, the item itself not among them

    Raises InputError for k < 1.
    """

    def __init__(self, ratings: RatingMatrix, *, neighbors: int = NEIGHBORS) -> None:
        if neighbors < 1:
            raise InputError(f"itemknn: k must be at least 1, got {neighbors}")
        self.neighbors = neighbors
        self._ratings = ratings
        # A row has what one rated item adds to every other item's score.
        self._gains = _nearest(ratings, neighbors).T.tocsr()

    def scores(self, user: int) -> NDArray[np.float32]:
        """Sums of cosines of every item, [I]."""
        gains = self._gains[self._ratings.items_of(user)].sum(axis=0)
        return np.asarray(gains, dtype=np.float32).ravel()


def _nearest(ratings: RatingMatrix, neighbors: int) -> csr_array:
    """Row i has the cosines of i with the k items most similar to it, equal ones by index."""
    rated = incidence(ratings)
    rated_by = rated.T.tocsr()
    norms = np.sqrt(np.maximum(ratings.item_counts(), 1))
    items, cosines, lengths = [], [], [0]
    for start in range(0, ratings.item_count, ITEMS_PER_CHUNK):
        chunk = slice(start, start + ITEMS_PER_CHUNK)
        table = (rated_by[chunk] @ rated).toarray() / norms[chunk, None] / norms
        for item, row in enumerate(table, start):
            row[item] = 0
            candidates = np.flatnonzero(row)
            best = candidates[np.argsort(-row[candidates], kind="stable")[:neighbors]]
            items.append(best)
            cosines.append(row[best])
            lengths.append(len(best))
    count = ratings.item_count
    table_of = (np.concatenate(cosines), np.concatenate(items), np.cumsum(lengths))
    return csr_array(table_of, shape=(count, count))
