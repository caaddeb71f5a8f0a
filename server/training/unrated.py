"""The base model trained with an unrated weight: the vicinal objective over all users.

    L = (1/N) [ Σ_{(u,i) ∈ Ω} (r̂_ui − r_ui)² + α Σ_{(u,i) ∉ Ω} r̂_ui² ]

Of mf the second sum is that over all pairs less that over Ω, and over all pairs it is ⟨PᵀP, QᵀQ⟩:
no table of users by items is formed. Models that read a user's ratings are trained on whole rows,
which are decoded anyway, and behind a sigmoid no matrix stands for all items: there the sum is
taken over the rows as they are.

Shapes: U users, I items, N ratings, B rows, d embedding width.
"""

import torch

from common.ratings import RatingMatrix
from server.training.descent import Descent, Factors, Observed, Progress, descend
from server.training.methods import Unrated


def train_unrated(
    ratings: RatingMatrix, method: Unrated, descent: Descent, progress: Progress | None
) -> Factors:
    """Factors that predict little where nothing is rated."""

    def loss_of(factors: Factors, batch: Observed, _epoch: int) -> torch.Tensor:
        return unrated_loss(factors, batch, method.weight, len(ratings))

    return descend(ratings, descent, loss_of, progress=progress)


def unrated_loss(factors: Factors, batch: Observed, alpha: float, total: int) -> torch.Tensor:
    """Of a batch of the `total` ratings; the mean over all batches is L."""
    predicted = factors.predict(batch)
    rated = (predicted - batch.ratings).square() - alpha * predicted.square()
    users, items = factors.users, factors.items
    everywhere = ((users.T @ users) * (items.T @ items)).sum()
    return rated.mean() + alpha / total * everywhere


def rows_loss(predicted: torch.Tensor, targets: torch.Tensor, alpha: float) -> torch.Tensor:
    """Of whole rows [B, I], with targets 0 where there is no rating; N is that of these rows."""
    observed = targets > 0
    gap = (predicted - targets)[observed]
    squares = gap.square().sum()
    if alpha > 0:
        squares = squares + alpha * predicted.masked_fill(observed, 0).square().sum()
    return squares / max(len(gap), 1)
