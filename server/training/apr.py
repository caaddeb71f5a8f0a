"""Adversarial training in the form for ratings: L(θ) + λ L(θ + Δ).

Δ = ε g / ‖g‖, row by row, g the gradient of a batch's loss (He et al. 2018, eq. 9): to first
order the worst change that is no longer than ε in any row.

Shapes: U users, I items, d embedding width.
"""

import torch

from common.ratings import RatingMatrix
from server.training.descent import Descent, Factors, Observed, Progress, descend
from server.training.methods import Apr


def train_apr(
    ratings: RatingMatrix, method: Apr, descent: Descent, progress: Progress | None
) -> Factors:
    """Factors that also fit when they are perturbed."""

    def loss_of(factors: Factors, batch: Observed, epoch: int) -> torch.Tensor:
        loss = factors.errors(batch).mean()
        if epoch < method.warm_up or method.weight == 0:
            return loss
        worst = perturbed(factors, batch, method.epsilon)
        return loss + method.weight * worst.errors(batch).mean()

    return descend(ratings, descent, loss_of, progress=progress)


def perturbed(factors: Factors, batch: Observed, epsilon: float) -> Factors:
    """θ + Δ for a batch; Δ is a constant, so gradients reach θ through the sum alone.

    A row that the batch does not touch has no gradient and stays.
    """
    loss = factors.errors(batch).mean()
    users, items = torch.autograd.grad(loss, [factors.users, factors.items])
    return Factors(
        factors.users + epsilon * torch.nn.functional.normalize(users, dim=1, eps=_TINY),
        factors.items + epsilon * torch.nn.functional.normalize(items, dim=1, eps=_TINY),
    )


# Far below any gradient that matters, and no division by zero.
_TINY = 1e-30
