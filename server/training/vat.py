"""Adversarial training that perturbs more where the model fits well: L(θ) + λ L(θ + Δ).

Zhang et al. 2024, section 4.2: a user whom the model fits well takes up what an attack adds, too.
Of a pair (u, i) the worst change of length ε g_u is sought (eq. 9), with

    g_u = σ((L̄ − L_u) / L_u)

L_u the mean loss of the user's ratings in a batch, L̄ the mean over its users. The paper ranks
pairs of items; here the loss is that of ratings, (p·q − r)², whose gradients are along the other
vector, so that Δ has a closed form.

Shapes: B ratings of a batch, U users, I items, d embedding width.
"""

import torch

from common.ratings import RatingMatrix
from server.training.descent import Descent, Factors, Observed, Progress, descend
from server.training.methods import Vat


def train_vat(
    ratings: RatingMatrix, method: Vat, descent: Descent, progress: Progress | None
) -> Factors:
    """Factors that also fit when the vectors of pairs are perturbed."""

    def loss_of(factors: Factors, batch: Observed, epoch: int) -> torch.Tensor:
        errors = factors.errors(batch)
        if epoch < method.warm_up or method.weight == 0:
            return errors.mean()
        lengths = method.epsilon * vulnerability(batch.users, errors.detach())
        return errors.mean() + method.weight * perturbed_errors(factors, batch, lengths).mean()

    return descend(ratings, descent, loss_of, progress=progress)


def vulnerability(users: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """The g of each pair's user, in (0, 1), [B], from the squared errors of a batch."""
    _, places, counts = torch.unique(users, return_inverse=True, return_counts=True)
    losses = torch.zeros(len(counts)).index_add(0, places, errors) / counts
    return torch.sigmoid(losses.mean() / losses.clamp_min(_TINY) - 1)[places]


def perturbed_errors(factors: Factors, batch: Observed, lengths: torch.Tensor) -> torch.Tensor:
    """(r̂ − r)² of every pair at θ + Δ, [B]; Δ, of `lengths` [B], is a constant."""
    users, items = factors.users[batch.users], factors.items[batch.items]
    signs = torch.sign((users * items).sum(-1) - batch.ratings).detach()
    reach = (signs * lengths)[:, None]
    moved_users = users + reach * torch.nn.functional.normalize(items.detach(), dim=1, eps=_TINY)
    moved_items = items + reach * torch.nn.functional.normalize(users.detach(), dim=1, eps=_TINY)
    return ((moved_users * moved_items).sum(-1) - batch.ratings).square()


# Far below any loss or vector that matters, and no division by zero.
_TINY = 1e-30
