"""The incidence matrix: who rated what, without the ratings.

Shapes: U users, I items, N observed ratings.
"""

import numpy as np
from scipy.sparse import csr_array

from common.ratings import RatingMatrix


def incidence(ratings: RatingMatrix) -> csr_array:
    """Ones where there is a rating, float64 [U, I]; sums of ones are exact in it."""
    ones = np.ones(len(ratings), dtype=np.float64)
    shape = (ratings.user_count, ratings.item_count)
    return csr_array((ones, ratings.items, ratings.indptr), shape=shape)
