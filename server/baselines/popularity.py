"""What most users rated, the same for everybody."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix


@final
class Popularity:
    """Scores an item by its number of ratings."""

    def __init__(self, ratings: RatingMatrix) -> None:
        self._counts = ratings.item_counts().astype(np.float32)

    def scores(self, _user: int) -> NDArray[np.float32]:
        """Of every item, [I]."""
        return self._counts.copy()
