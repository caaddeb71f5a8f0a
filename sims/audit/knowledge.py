"""What an attacker knows before: a few ratings of a person, and how people rate at large.

Shapes: B people, I items, a known ratings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from common.names import unknown
from common.ratings import RatingMatrix
from sims.audit.seen import incidence

Choice = Literal["random", "rare"]
CHOICES: Final[tuple[Choice, ...]] = get_args(Choice)
# Of the mean variance of an item: what a covariance of few people is held up with.
RIDGE: Final = 0.1
# Whom nobody rated is not impossible.
SMOOTHING: Final = 0.5


def choice_named(name: str) -> Choice:
    """Raises InputError for a name that is not in CHOICES."""
    for choice in CHOICES:
        if name == choice:
            return choice
    raise unknown("knowledge", name, CHOICES)


@dataclass(frozen=True)
class Knowledge:
    """How much an attacker knows of a person.

    known   how many ratings; of who has fewer, all but one, so that one is left to be found
    choice  drawn at random, or the items with the fewest raters
    noise   levels that a known rating may be off, up or down
    """

    known: int = 8
    choice: Choice = "random"
    noise: int = 0

    def of(
        self, ratings: RatingMatrix, raters: NDArray[np.int64], *, rng: np.random.Generator
    ) -> RatingMatrix:
        """What is known of each row, [B, I]; `raters` says how rare an item is, [I]."""
        users, items, levels = [], [], []
        top = ratings.scale.level_count - 1
        for row in range(ratings.user_count):
            start, end = ratings.indptr[row], ratings.indptr[row + 1]
            own = ratings.items[start:end]
            count = min(self.known, max(len(own) - 1, 0))
            order = rng.permutation(len(own))
            if self.choice == "rare":
                order = order[np.argsort(raters[own[order]], kind="stable")]
            chosen = order[:count]
            off = rng.integers(-self.noise, self.noise + 1, count)
            users.append(np.full(count, row))
            items.append(own[chosen])
            levels.append(np.clip(ratings.levels[start:end][chosen] + off, 0, top))
        return RatingMatrix.from_triples(
            np.concatenate(users),
            np.concatenate(items),
            np.concatenate(levels),
            user_count=ratings.user_count,
            item_count=ratings.item_count,
            scale=ratings.scale,
        )


@dataclass(frozen=True)
class Background:
    """How people rate at large, from some whom the attacker knows whole, the shadows."""

    shadows: RatingMatrix

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """Share of people who rated each item, never 0 or 1, [I]."""
        people = self.shadows.user_count
        shares: NDArray[np.float64] = (self.shadows.item_counts() + SMOOTHING) / (people + 1)
        return shares

    @cached_property
    def _factor(self) -> tuple[NDArray[np.float64], bool]:
        rows = incidence(self.shadows).toarray() - self.shares
        covariance = rows.T @ rows / max(len(rows), 1)
        ridge = RIDGE * float(np.trace(covariance)) / len(covariance) + 1e-9
        covariance[np.diag_indices_from(covariance)] += ridge
        factor: tuple[NDArray[np.float64], bool] = cho_factor(covariance)
        return factor

    def whitened(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Σ⁻¹x of each row [B, I], for the covariance Σ of who rates what together."""
        solved: NDArray[np.float64] = cho_solve(self._factor, rows.T).T
        return solved


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of so many at a time."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
