"""A neighborhood: the rows on which one user's copy of the model is fine-tuned.

Shapes: k neighbors (row 0 is the user itself), I items, d embedding width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from common.vicinal.settings import CLOSED_FORM_RULE, VicinalSettings


@dataclass(frozen=True)
class Neighborhood:
    """Ratings of k anonymous rows and the rows' user parameters.

    ratings           k × I, row 0 the user
    user_parameters   by name, float32, one row per neighbor: for mf the user embeddings; none where
                      they are made of the rows (settings.fold_in)
    """

    ratings: RatingMatrix
    user_parameters: Mapping[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        if self.ratings.user_count < 1:
            raise InputError("neighborhood: it has no rows")
        for name, rows in self.user_parameters.items():
            if len(rows) != self.ratings.user_count:
                raise InputError(f"neighborhood: {name} has {len(rows)} rows")
            if not np.isfinite(rows).all():
                raise InputError(f"neighborhood: {name} is not finite")

    def __len__(self) -> int:
        return self.ratings.user_count


def own_row(ratings: RatingMatrix, others: RatingMatrix, settings: VicinalSettings) -> RatingMatrix:
    """Row 0 of a neighborhood, 1 × I, of a user's ratings and the others' rows.

    It is never sent: a device makes it of the ratings that it has.
    """
    if settings.min_support > 1:
        # Of these items some other row must have a rating, and all are sent that have enough.
        sent = np.isin(ratings.items, others.items)
        indptr = np.array([0, np.count_nonzero(sent)])
        ratings = RatingMatrix(
            indptr, ratings.items[sent], ratings.levels[sent], ratings.item_count, ratings.scale
        )
    return without_levels(ratings) if settings.step_rule == CLOSED_FORM_RULE else ratings


def without_levels(ratings: RatingMatrix) -> RatingMatrix:
    """Who rated what, and not how highly: what is not needed does not leave the server."""
    levels = np.zeros_like(ratings.levels)
    return RatingMatrix(ratings.indptr, ratings.items, levels, ratings.item_count, ratings.scale)
