"""Mini-batch descent on the factors of mf; a robust training passes in its loss.

Shapes: U users, I items, N ratings, B ratings of a batch, d embedding width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from common.ratings import RatingMatrix

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Descent:
    """Adagrad from Xavier's start; the defaults of what is here stand in TrainingSettings.

    batch is in ratings; seed decides the start and the order of ratings.
    """

    seed: int
    width: int
    learning_rate: float
    initial_accumulator: float
    batch: int
    epochs: int


@dataclass(frozen=True)
class Observed:
    """Ratings as tensors, each [N]: users and items int64, ratings float32."""

    users: torch.Tensor
    items: torch.Tensor
    ratings: torch.Tensor

    @classmethod
    def of(cls, ratings: RatingMatrix) -> "Observed":
        """All of Ω, in its order."""
        return cls(
            torch.from_numpy(ratings.users.copy()),
            torch.from_numpy(ratings.items.astype(np.int64)),
            torch.from_numpy(ratings.ratings.copy()),
        )

    def __len__(self) -> int:
        return len(self.ratings)

    def part(self, places: torch.Tensor) -> "Observed":
        """Those at some places."""
        return Observed(self.users[places], self.items[places], self.ratings[places])


@dataclass(frozen=True)
class Factors:
    """P [U, d] and Q [I, d], float32; r̂ = P Qᵀ."""

    users: torch.Tensor
    items: torch.Tensor

    def predict(self, observed: Observed) -> torch.Tensor:
        """r̂ of every pair, [N]."""
        return (self.users[observed.users] * self.items[observed.items]).sum(-1)

    def errors(self, observed: Observed) -> torch.Tensor:
        """(r̂ − r)² of every pair, [N]."""
        return (self.predict(observed) - observed.ratings).square()


# Of some ratings in an epoch (from 0): the loss that a step follows.
Loss = Callable[[Factors, Observed, int], torch.Tensor]
# Of all ratings, before an epoch: those that it fits.
Choice = Callable[[Factors, Observed, int], Observed]


def descend(
    ratings: RatingMatrix,
    descent: Descent,
    loss_of: Loss,
    *,
    choose: Choice = lambda _factors, observed, _epoch: observed,
    progress: Progress | None = None,
) -> Factors:
    """The factors after all epochs; the same arguments give the same factors."""
    generator = torch.Generator().manual_seed(descent.seed)
    observed = Observed.of(ratings)
    # Drawn in this order, as the plain model's are: without a defense nothing differs.
    factors = Factors(
        _xavier(ratings.user_count, descent.width, generator),
        _xavier(ratings.item_count, descent.width, generator),
    )
    optimizer = torch.optim.Adagrad(
        [factors.users, factors.items],
        lr=descent.learning_rate,
        initial_accumulator_value=descent.initial_accumulator,
    )
    for epoch in range(descent.epochs):
        with torch.no_grad():
            chosen = choose(factors, observed, epoch)
        order = torch.randperm(len(chosen), generator=generator)
        for places in torch.split(order, descent.batch):
            loss = loss_of(factors, chosen.part(places), epoch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if progress is not None:
            progress(epoch + 1, descent.epochs)
    return Factors(factors.users.detach(), factors.items.detach())


def _xavier(rows: int, width: int, generator: torch.Generator) -> torch.nn.Parameter:
    table = torch.empty((rows, width))
    torch.nn.init.xavier_uniform_(table, generator=generator)
    return torch.nn.Parameter(table)
