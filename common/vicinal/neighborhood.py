"""A neighborhood: the rows on which one user's copy of the model is fine-tuned.

Shapes: k neighbors (row 0 is the user itself), I items, d embedding width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix


@dataclass(frozen=True)
class Neighborhood:
    """Ratings of k anonymous rows and the rows' user parameters.

    ratings           k × I, row 0 the user
    user_parameters   by name, float32, one row per neighbor: for mf the user embeddings
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
