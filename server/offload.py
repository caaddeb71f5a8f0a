"""What the server hands out for one user: a neighborhood of anonymous rows.

Shapes: U users (fakes among them, unknown to the server), k neighbors, I items.
"""

from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.neighborhood import Neighborhood
from common.ratings import RatingMatrix
from common.settings import VicinalSettings
from server.neighbors import NeighborIndex


@final
class Offloader:
    """Builds neighborhoods from the ratings and user parameters that a server keeps."""

    def __init__(
        self,
        ratings: RatingMatrix,
        user_parameters: Mapping[str, NDArray[np.float32]],
        embeddings: NDArray[np.float32],
    ) -> None:
        self.ratings = ratings
        self.user_parameters = user_parameters
        self.index = NeighborIndex(embeddings)

    def neighborhood(self, user: int, settings: VicinalSettings) -> Neighborhood:
        """Raises InputError when k is larger than the number of users."""
        if not 0 <= user < self.ratings.user_count:
            raise InputError(f"unknown user {user}: choose 0–{self.ratings.user_count - 1}")
        nearest = self.index.neighbors([user], settings.neighbors)[0]
        # The order of the rows must not tell who is nearest; by user index it does not.
        members = np.concatenate([[user], np.sort(nearest[1:])])
        ratings = supported(self.ratings.rows(members), settings.min_support)
        tables = {name: rows[members] for name, rows in self.user_parameters.items()}
        return Neighborhood(ratings, tables)


def supported(ratings: RatingMatrix, min_support: int) -> RatingMatrix:
    """The ratings of items that at least `min_support` rows rated.

    An item that hardly anybody in a neighborhood rated is where a single fake decides, and
    where a row could be recognized.
    """
    if min_support <= 1:
        return ratings
    keep = ratings.item_counts()[ratings.items] >= min_support
    indptr = np.concatenate([[0], np.cumsum(keep)])[ratings.indptr]
    return RatingMatrix(
        indptr, ratings.items[keep], ratings.levels[keep], ratings.item_count, ratings.scale
    )
