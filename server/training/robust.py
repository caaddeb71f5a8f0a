"""Which function trains which method."""

import torch

from common.ratings import RatingMatrix
from server.training.apr import train_apr
from server.training.descent import Descent, Factors, Progress
from server.training.ltsmf import train_ltsmf
from server.training.methods import Apr, Ltsmf, Rmf, Robust
from server.training.rmf import train_rmf
from server.training.unrated import train_unrated


def robust_factors(
    ratings: RatingMatrix, method: Robust, descent: Descent, progress: Progress | None = None
) -> dict[str, torch.Tensor]:
    """The parameters of mf, by name, after a robust training on all ratings given.

    Their width is that of `descent`, but rmf's follows from its rank. `progress` is called with
    (rounds done, rounds).
    """
    factors = _train(ratings, method, descent, progress)
    return {"user_embedding": factors.users, "item_embedding": factors.items}


def _train(
    ratings: RatingMatrix, method: Robust, descent: Descent, progress: Progress | None
) -> Factors:
    if isinstance(method, Apr):
        return train_apr(ratings, method, descent, progress)
    if isinstance(method, Ltsmf):
        return train_ltsmf(ratings, method, descent, progress)
    if isinstance(method, Rmf):
        return train_rmf(ratings, method, descent, progress)
    return train_unrated(ratings, method, descent, progress)
