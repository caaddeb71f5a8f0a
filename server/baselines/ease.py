"""EASE: a linear model of items by items, solved in closed form (Steck 2019, "Embarrassingly
Shallow Autoencoders for Sparse Data", section 3.1, eq. 8).

    min_B ‖X − X B‖² + λ ‖B‖²,  diag B = 0        X [U, I], ones where there is a rating
    P = (XᵀX + λ)⁻¹,  B = 1 − P / diag P           (columns divided)

A user's scores are those of its row of X B. By Woodbury's identity P is also
(1 − Xᵀ K X) / λ with K = (XXᵀ + λ)⁻¹, and row u of X P is row u of K X: with fewer users than
items, a table of users by users is enough.

Shapes: U users, I items.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_array

from common.errors import InputError
from common.memory import available_memory
from common.ratings import RatingMatrix
from server.baselines.incidence import incidence

# λ, chosen on validation items (docs/decisions/0022-baselines.md).
PENALTY: Final = 200.0
# Of the smaller of users and items: 1.2 GB as float64, and minutes of one core.
MOST: Final = 12_000
# Users whose products with all items are held at a time: 1.6 GB at 100,000 items.
USERS_PER_CHUNK: Final = 2048
# Rows of the table that is inverted which are made at a time.
ROWS_PER_CHUNK: Final = 512


@final
class Ease:
    """Scores an item by a weighted sum over what the user rated.

    penalty  λ

    Raises InputError where both users and items are more than MOST, and where there is no memory
    for the table: before anything is computed.
    """

    def __init__(self, ratings: RatingMatrix, *, penalty: float = PENALTY) -> None:
        if not 0 < penalty < float("inf"):
            raise InputError(f"ease: λ must be positive, got {penalty:g}")
        smaller = min(ratings.user_count, ratings.item_count)
        if smaller > MOST:
            raise InputError(
                f"ease: {ratings.user_count} users × {ratings.item_count} items: it inverts a "
                f"table of the smaller number, at most {MOST}; take itemknn or ials"
            )
        needed, free = 8 * smaller**2, available_memory()
        if needed > free:
            raise InputError(
                f"ease: a table of {smaller} × {smaller} numbers takes {needed >> 20} MiB, and "
                f"{free >> 20} MiB are free; take itemknn or ials"
            )
        self._rated = incidence(ratings)
        self._by_users = ratings.user_count < ratings.item_count
        if self._by_users:
            self._inverse = _inverse(self._rated, self._rated.T.tocsr(), penalty)
            # xᵢᵀ K xᵢ of every column xᵢ of X.
            within = np.zeros(ratings.item_count)
            for start in range(0, ratings.user_count, USERS_PER_CHUNK):
                chunk = slice(start, start + USERS_PER_CHUNK)
                products = self._rated[chunk].multiply(self._inverse[chunk] @ self._rated)
                within += np.asarray(products.sum(axis=0)).ravel()
            self._diagonal = (1 - within) / penalty
        else:
            self._inverse = _inverse(self._rated.T.tocsr(), self._rated, penalty)
            self._diagonal = self._inverse.diagonal().copy()

    def scores(self, user: int) -> NDArray[np.float32]:
        """Of every item, [I]: the user's row of X B."""
        rows = self._rated
        own = rows.indices[rows.indptr[user] : rows.indptr[user + 1]]
        inverse = self._inverse
        projected = inverse[user] @ rows if self._by_users else inverse[own].sum(axis=0)
        scores = np.asarray(-projected / self._diagonal, dtype=np.float32)
        scores[own] += 1
        return scores


def _inverse(rows: csr_array, columns: csr_array, penalty: float) -> NDArray[np.float64]:
    """(A Aᵀ + λ)⁻¹ of A's rows, by Cholesky's factor, in the place of the table itself.

    columns  Aᵀ
    """
    count = rows.shape[0]
    table = np.empty((count, count))
    for start in range(0, count, ROWS_PER_CHUNK):
        chunk = slice(start, start + ROWS_PER_CHUNK)
        table[chunk] = (rows[chunk] @ columns).toarray()
    table[np.diag_indices_from(table)] += penalty
    # LAPACK reads columns first; a symmetric table is its own transpose.
    factor, failed = lapack.dpotrf(table.T, lower=True, overwrite_a=True)
    inverse, failed_too = lapack.dpotri(factor, lower=True, overwrite_c=True)
    assert failed == failed_too == 0  # λ > 0
    for start in range(0, count, ROWS_PER_CHUNK):
        end = min(start + ROWS_PER_CHUNK, count)
        square = np.tril(inverse[start:end, start:end])
        inverse[start:end, start:end] = square + np.tril(square, -1).T
        inverse[start:end, end:] = inverse[end:, start:end].T
    lower: NDArray[np.float64] = inverse
    return lower
