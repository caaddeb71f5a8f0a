"""Random attack (Lam & Riedl 2004, "Shilling recommender systems for fun and profit").

Fillers are uniform over items; their ratings follow N(μ, σ) of all ratings.
"""

import numpy as np

from common.ratings import RatingMatrix
from sims.attacks.budget import Budget, assemble, fillable


def random_attack(
    ratings: RatingMatrix, targets: tuple[int, ...], budget: Budget, *, rng: np.random.Generator
) -> RatingMatrix:
    values = ratings.scale.values[ratings.levels]
    mean, deviation = values.mean(), values.std()
    items = fillable(ratings, targets)
    count = min(budget.profile_size - len(targets), len(items))
    return assemble(
        ratings,
        targets,
        (
            (rng.choice(items, count, replace=False), rng.normal(mean, deviation, count))
            for _ in range(budget.fakes)
        ),
    )
