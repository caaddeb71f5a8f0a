"""Which function trains which method."""

from collections.abc import Callable
from typing import Any, Final

import torch

from common.ratings import RatingMatrix
from server.training import methods
from server.training.apr import train_apr
from server.training.descent import Descent, Factors, Progress
from server.training.ltsmf import train_ltsmf
from server.training.methods import Apr, Ltsmf, Private, Rmf, Unrated, Vat
from server.training.private import train_private
from server.training.rmf import train_rmf
from server.training.unrated import train_unrated
from server.training.vat import train_vat

Training = Callable[[RatingMatrix, Any, Descent, Progress | None], Factors]
# By the class of its settings, which each function takes after the ratings.
TRAININGS: Final[dict[type[methods.Training], Training]] = {
    Apr: train_apr,
    Ltsmf: train_ltsmf,
    Private: train_private,
    Rmf: train_rmf,
    Unrated: train_unrated,
    Vat: train_vat,
}


def robust_factors(
    ratings: RatingMatrix,
    method: methods.Training,
    descent: Descent,
    progress: Progress | None = None,
) -> dict[str, torch.Tensor]:
    """The parameters of mf, by name, after a robust training on all ratings given.

    Their width is that of `descent`, but rmf's follows from its rank. `progress` is called with
    (rounds done, rounds).
    """
    factors = TRAININGS[type(method)](ratings, method, descent, progress)
    return {"user_embedding": factors.users, "item_embedding": factors.items}
