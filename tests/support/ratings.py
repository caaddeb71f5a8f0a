"""Small rating matrices as a hand writes them, with ratings 1–5.

Shapes: U users, I items.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from common.ratings import RatingMatrix, RatingScale

SCALE = RatingScale(1, 5, 1)


def from_table(table: ArrayLike) -> RatingMatrix:
    """From ratings 1–5, [U, I]; 0 and below is none."""
    ratings = np.asarray(table, dtype=np.int64)
    users, items = np.nonzero(ratings > 0)
    count, item_count = ratings.shape
    return RatingMatrix.from_triples(
        users,
        items,
        ratings[users, items] - 1,
        user_count=count,
        item_count=item_count,
        scale=SCALE,
    )


def from_rows(rows: Sequence[Sequence[int]], item_count: int) -> RatingMatrix:
    """From the items that each user rated, all at the maximum."""
    users = [user for user, row in enumerate(rows) for _ in row]
    items = np.array([item for row in rows for item in row], dtype=np.int64)
    levels = np.full(len(items), SCALE.level_count - 1)
    return RatingMatrix.from_triples(
        users, items, levels, user_count=len(rows), item_count=item_count, scale=SCALE
    )
