"""Least trimmed squares: only the ratings that fit best are fitted.

    L = mean over the h smallest of (r̂_ui − r_ui)² + λ (‖P‖² + ‖Q‖²)

h = ⌈(1 − τ) N⌉, chosen anew before every epoch (Cheng and Hurley 2010). An attacker's ratings
go against most others on an item, so many of them are among the largest residuals; but so are
honest ratings of a rare taste.

Shapes: U users, I items, N ratings.
"""

import math

import torch

from common.ratings import RatingMatrix
from server.training.descent import Descent, Factors, Observed, Progress, descend
from server.training.methods import Ltsmf


def train_ltsmf(
    ratings: RatingMatrix, method: Ltsmf, descent: Descent, progress: Progress | None
) -> Factors:
    """Factors fitted to the ratings of the smallest residuals."""

    def choose(factors: Factors, observed: Observed, epoch: int) -> Observed:
        return observed if epoch < method.warm_up else kept(factors, observed, method.trimmed)

    def loss_of(factors: Factors, batch: Observed, _epoch: int) -> torch.Tensor:
        squares = factors.users.square().sum() + factors.items.square().sum()
        return factors.errors(batch).mean() + method.regularization * squares

    return descend(ratings, descent, loss_of, choose=choose, progress=progress)


def kept(factors: Factors, observed: Observed, trimmed: float) -> Observed:
    """The ⌈(1 − τ) N⌉ ratings of the smallest residuals, in their order; ties keep the first."""
    errors = factors.errors(observed)
    # Rounded, because (1 − 0.1) · 10 is not 9 in floating point.
    count = math.ceil(round((1 - trimmed) * len(observed), 6))
    places = torch.argsort(errors, stable=True)[:count]
    return observed.part(places.sort().values)
