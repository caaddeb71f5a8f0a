"""Whether factors fit the ratings that they are said to be of: rows in another order do not.

Shapes: U users, I items, d embedding width.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix

# Users on whom it is measured.
ASKED: Final = 400
# Below both, ratings and predictions have nothing to do with each other.
LEAST_RANK: Final = 0.55
LEAST_CORRELATION: Final = 0.05


def rated_above_unrated(
    users: NDArray[np.float32], items: NDArray[np.float32], ratings: RatingMatrix
) -> float:
    """How often an item that a user rated is predicted higher than one that it did not, 0–1.

    Chance is 0.5 (the mean over users of the area under the ROC curve).
    """
    shares = []
    for user in _asked(ratings):
        scores, rated = items @ users[user], ratings.items_of(user)
        others = np.sort(np.delete(scores, rated))
        if len(rated) and len(others):
            below = np.searchsorted(others, scores[rated], "left")
            upto = np.searchsorted(others, scores[rated], "right")
            shares.append(float((below + upto).mean()) / (2 * len(others)))
    return float(np.mean(shares)) if shares else 0.5


def correlation(
    users: NDArray[np.float32], items: NDArray[np.float32], ratings: RatingMatrix
) -> float:
    """Of predictions and ratings over what some users rated; 0 where one does not vary."""
    asked = _asked(ratings)
    own = ratings.rows(asked)
    predicted = np.einsum("nd,nd->n", users[asked[own.users]], items[own.items])
    if len(own) < 2 or min(np.ptp(predicted), np.ptp(own.ratings)) == 0:
        return 0.0
    return float(np.corrcoef(predicted, own.ratings)[0, 1])


def _asked(ratings: RatingMatrix) -> NDArray[np.int64]:
    count = ratings.user_count
    return np.linspace(0, count - 1, min(ASKED, count)).astype(np.int64)
