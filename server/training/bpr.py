"""Bayesian personalized ranking: a rated item before one that is not.

    L = mean of −ln σ(r̂_ui − r̂_uj) + λ/2 (‖p_u‖² + ‖q_i‖² + ‖q_j‖²),  (u, i) ∈ Ω, (u, j) ∉ Ω

Shapes: U users, I items, N ratings, B comparisons of a step, d embedding width.
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softplus

from common.ratings import RatingMatrix
from server.training.descent import Factors, Progress
from server.training.ranking import Bpr, LightGcn

# Standard deviation of the first embeddings.
START: Final = 0.1

# A symmetric linear map of the rows of users and items, [U + I, d].
Spread = Callable[[torch.Tensor], torch.Tensor]
Indices = NDArray[np.int64]


def train_bpr(
    ratings: RatingMatrix, method: Bpr, *, width: int, seed: int, progress: Progress | None = None
) -> Factors:
    """The factors after all epochs; the same arguments give the same factors."""
    return compared(
        ratings, method, width=width, seed=seed, spread=lambda rows: rows, progress=progress
    )


def compared(
    ratings: RatingMatrix,
    method: Bpr | LightGcn,
    *,
    width: int,
    seed: int,
    spread: Spread,
    progress: Progress | None = None,
) -> Factors:
    """Adam on comparisons of spread embeddings; gives them as they are in the end, spread."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    users = ratings.user_count
    start = torch.empty((users + ratings.item_count, width)).normal_(0, START, generator=generator)
    table = torch.nn.Parameter(start)
    optimizer = torch.optim.Adam([table], lr=method.learning_rate)
    for epoch in range(method.epochs):
        for comparisons in epoch_of(ratings, method.batch, rng):
            own, rated, other = (torch.from_numpy(places) for places in comparisons)
            optimizer.zero_grad()
            with torch.no_grad():
                final = spread(table)
            final.requires_grad_()
            loss = comparison_loss(final, own, users + rated, users + other)
            (slope,) = torch.autograd.grad(loss, final)
            rows = table[torch.cat([own, users + rated, users + other])]
            decay = method.regularization / 2 * rows.square().sum() / len(own)
            decay.backward()  # type: ignore[no-untyped-call]
            assert table.grad is not None
            # The map is its own transpose.
            table.grad += spread(slope)
            optimizer.step()
        if progress is not None:
            progress(epoch + 1, method.epochs)
    with torch.no_grad():
        final = spread(table)
    return Factors(final[:users].detach(), final[users:].detach())


def comparison_loss(
    rows: torch.Tensor, own: torch.Tensor, rated: torch.Tensor, other: torch.Tensor
) -> torch.Tensor:
    """Mean of −ln σ(r̂_ui − r̂_uj) over comparisons, each given by three of `rows`, [B] each."""
    gaps = (rows[own] * (rows[rated] - rows[other])).sum(-1)
    loss: torch.Tensor = softplus(-gaps).mean()
    return loss


def epoch_of(
    ratings: RatingMatrix, batch: int, rng: np.random.Generator
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Every rating once, in random order, as users, rated items and others, [B] each.

    A user who rated everything has nothing to compare with, and is left out.
    """
    comparable = np.flatnonzero(np.diff(ratings.indptr)[ratings.users] < ratings.item_count)
    pairs = ratings.users * ratings.item_count + ratings.items
    order = rng.permutation(comparable)
    for places in np.split(order, range(batch, len(order), batch)):
        own, rated = ratings.users[places], ratings.items[places].astype(np.int64)
        yield own, rated, _unrated(pairs, own, ratings.item_count, rng)


def _unrated(pairs: Indices, users: Indices, items: int, rng: np.random.Generator) -> Indices:
    """For each of some users one of so many items that it has not rated, all equally likely.

    `pairs` are what was rated, user × items + item, ascending.
    """
    drawn = rng.integers(0, items, len(users))
    wrong = np.arange(len(users))
    while len(wrong):
        keys = users[wrong] * items + drawn[wrong]
        found = np.searchsorted(pairs, keys)
        rated = pairs[np.minimum(found, len(pairs) - 1)] == keys
        wrong = wrong[rated]
        drawn[wrong] = rng.integers(0, items, len(wrong))
    return drawn
