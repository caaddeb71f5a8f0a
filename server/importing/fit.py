"""Whether factors fit the ratings that they are said to be of.

Where rows are in another order or ids are shifted, a user's ratings are predicted no better from
the user's own embedding than from another user's. What is popular is predicted well from both.

Shapes: U users, I items, d embedding width.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix

# Users on whom it is measured.
ASKED: Final = 400
# Own embeddings have to be so much better than others', in one of the two at least.
LEAST_RANKED: Final = 0.02
LEAST_CORRELATED: Final = 0.05


class Fit(NamedTuple):
    """How well ratings are predicted from users' own embeddings, and from other users'.

    ranked      how often an item that a user rated is predicted higher than one that it did not,
                0–1, chance is 0.5 (the mean over users of the area under the ROC curve)
    correlated  predictions with ratings, over what was rated
    """

    ranked: float
    ranked_by_others: float
    correlated: float
    correlated_by_others: float

    @property
    def doubtful(self) -> bool:
        """Whether users' own embeddings are hardly better than others'."""
        return (
            self.ranked - self.ranked_by_others < LEAST_RANKED
            and self.correlated - self.correlated_by_others < LEAST_CORRELATED
        )


def fit_of(users: NDArray[np.float32], items: NDArray[np.float32], ratings: RatingMatrix) -> Fit:
    """Of factors [U, d] and [I, d] to their ratings, on some users."""
    count = ratings.user_count
    asked = np.linspace(0, count - 1, min(ASKED, count)).astype(np.int64)
    own = ratings.rows(asked)
    others = np.roll(asked, 1)
    return Fit(
        _ranked(users[asked], items, own),
        _ranked(users[others], items, own),
        _correlated(users[asked], items, own),
        _correlated(users[others], items, own),
    )


def _ranked(users: NDArray[np.float32], items: NDArray[np.float32], ratings: RatingMatrix) -> float:
    shares = []
    for user, embedding in enumerate(users):
        scores, rated = items @ embedding, ratings.items_of(user)
        others = np.sort(np.delete(scores, rated))
        if len(rated) and len(others):
            below = np.searchsorted(others, scores[rated], "left")
            upto = np.searchsorted(others, scores[rated], "right")
            shares.append(float((below + upto).mean()) / (2 * len(others)))
    return float(np.mean(shares)) if shares else 0.5


def _correlated(
    users: NDArray[np.float32], items: NDArray[np.float32], ratings: RatingMatrix
) -> float:
    """0 where one of the two does not vary."""
    predicted = np.einsum("nd,nd->n", users[ratings.users], items[ratings.items])
    if len(ratings) < 2 or min(np.ptp(predicted), np.ptp(ratings.ratings)) == 0:
        return 0.0
    return float(np.corrcoef(predicted, ratings.ratings)[0, 1])
