"""Suspects by principal components (Mehta and Nejdl 2009, section 5, PCASelectUsers).

Rows of ratings, 0 where there is none, are turned into z-scores Z. The eigenvectors of the users'
covariance Z Zᵀ are Z's left singular vectors, and the first of them say with whom a user varies.
Fakes of random fillers vary with nobody, and those that copy means do so less than people: of all
users those with the smallest sum of squares over the first components are suspected. So are, at
the same time, people of few ratings or a rare taste; nothing here knows who is a fake.

Shapes: U users, I items, c components.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from common.ratings import RatingMatrix
from common.threads import limit_threads

Table = NDArray[np.float64]

# Below, the whole decomposition is as fast as an iteration.
_SMALL: Final = 64
# Spreads that are rounding errors.
_TINY: Final = 1e-12


def suspects(ratings: RatingMatrix, share: float, components: int) -> NDArray[np.int64]:
    """The users to be left out, ascending: as many as `share` fakes for each real user would be.

    A user without ratings is none. At least one user with ratings remains.
    """
    limit_threads()  # a sum's last bits, and with them ties, depend on their number
    count = suspect_count(ratings.user_count, share)
    lengths = np.diff(ratings.indptr)
    distances = np.square(loadings(ratings, components)).sum(1)
    distances[lengths == 0] = np.inf
    count = min(count, max(0, int(np.count_nonzero(lengths)) - 1))
    return np.sort(np.argsort(distances, kind="stable")[:count])


def suspect_count(users: int, share: float) -> int:
    """Of `users` rows, fakes among them, the fakes if there are `share` for each real user.

    >>> suspect_count(971, 0.03)
    28
    """
    return round(users * share / (1 + share))


def loadings(ratings: RatingMatrix, components: int) -> Table:
    """The first eigenvectors of the users' covariance, largest first, [U, c]; signs are arbitrary.

    Fewer columns where the matrix has not so many.
    """
    shape = ratings.user_count, ratings.item_count
    values = ratings.ratings.astype(np.float64)
    table = sparse.csr_array((values, ratings.items, ratings.indptr), shape=shape)
    means = np.asarray(table.sum(1)) / max(1, shape[1])
    squares = np.asarray(table.power(2).sum(1)) / max(1, shape[1])
    spreads = np.sqrt(np.maximum(squares - means**2, 0))
    # A row without ratings, or of one rating everywhere, does not vary.
    scales = np.divide(1, spreads, out=np.zeros(shape[0]), where=spreads > _TINY)
    if min(shape) <= max(_SMALL, components):
        return np.linalg.svd((table.toarray() - means[:, None]) * scales[:, None])[0][
            :, : min(components, *shape)
        ]

    def times(vector: Table) -> Table:
        product: Table = scales * (table @ vector.ravel() - means * vector.sum())
        return product

    def transposed_times(vector: Table) -> Table:
        scaled = scales * vector.ravel()
        product: Table = table.T @ scaled - np.dot(means, scaled)
        return product

    scores = LinearOperator(shape, matvec=times, rmatvec=transposed_times, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(min(shape))
    left: Table = svds(scores, components, v0=start)[0]
    return left[:, ::-1]
