"""The recommenders that every other one is compared with.

Each is fitted by one function of the rating matrix, and takes no random numbers. Only what was
rated counts, not how highly. None has parameters.
"""

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from common.models import CLOSED_FORM
from common.ratings import RatingMatrix
from server.baselines.ease import Ease
from server.baselines.itemknn import ItemKnn
from server.baselines.popularity import Popularity
from server.baselines.userknn import UserKnn


class Scorer(Protocol):
    """A fitted baseline."""

    def scores(self, user: int) -> NDArray[np.float32]:
        """Of every item for one user of the ratings that it was fitted to, [I]; all finite."""
        ...


BASELINES: Final[dict[str, Callable[[RatingMatrix], Scorer]]] = {
    "popularity": Popularity,
    "userknn": UserKnn,
    "itemknn": ItemKnn,
    "ease": Ease,
}
# Those that no request can tune; ease is solved on neighborhoods, too (common.vicinal.ease).
UNDEFENDED: Final = tuple(name for name in BASELINES if name not in CLOSED_FORM)
