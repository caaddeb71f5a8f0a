"""The base model trained with an unrated weight: the vicinal objective over all users.

    L = (1/N) [ Σ_{(u,i) ∈ Ω} (r̂_ui − r_ui)² + α Σ_{(u,i) ∉ Ω} r̂_ui² ]

The second sum is that over all pairs less that over Ω, and over all pairs it is ⟨PᵀP, QᵀQ⟩:
no table of users by items is formed.

Shapes: U users, I items, N ratings, d embedding width.
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
