"""Accounts that rate nothing but the targets: the cheapest fakes there are.

As a row of ratings they are as short as rows get, which some measures of similarity take for
nearness, and they support a target without a rating that could speak against them.
"""

import numpy as np

from common.ratings import RatingMatrix
from sims.attacks.budget import Budget, assemble


def targets_only_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,  # nothing is left to chance
) -> RatingMatrix:
    """Every fake rates the targets at the maximum, and nothing else."""
    nothing = np.empty(0, dtype=np.int64), np.empty(0)
    return assemble(ratings, targets, [nothing] * budget.fakes)
