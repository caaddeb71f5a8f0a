"""Average attack (Lam & Riedl 2004), and the paper's reading of it.

`average`: fillers are uniform over items; an item's rating follows N(μ_i, σ_i) of that item,
with the global μ and σ where an item has no rating, or too few to vary.
`uniform`: fillers and ratings are both uniform ("completely random", the paper's Appendix B).
"""

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from sims.attacks.budget import Budget, assemble, fillable


def item_statistics(
    ratings: RatingMatrix,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each item's ratings in the data set's units, [I] each.

    Items without a rating get the global mean, items with fewer than two the global deviation.
    """
    values = ratings.scale.values[ratings.levels]
    counts = ratings.item_counts()
    sums = np.bincount(ratings.items, values, ratings.item_count)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), values.mean())
    squares = np.bincount(ratings.items, (values - means[ratings.items]) ** 2, ratings.item_count)
    deviations = np.sqrt(squares / np.maximum(counts, 1))
    return means, np.where(counts > 1, deviations, values.std())


def average_attack(
    ratings: RatingMatrix, targets: tuple[int, ...], budget: Budget, *, rng: np.random.Generator
) -> RatingMatrix:
    means, deviations = item_statistics(ratings)
    items = fillable(ratings, targets)
    count = min(budget.profile_size - len(targets), len(items))
    chosen = [rng.choice(items, count, replace=False) for _ in range(budget.fakes)]
    return assemble(
        ratings, targets, ((row, rng.normal(means[row], deviations[row])) for row in chosen)
    )


def uniform_attack(
    ratings: RatingMatrix, targets: tuple[int, ...], budget: Budget, *, rng: np.random.Generator
) -> RatingMatrix:
    items = fillable(ratings, targets)
    count = min(budget.profile_size - len(targets), len(items))
    return assemble(
        ratings,
        targets,
        (
            (rng.choice(items, count, replace=False), rng.choice(ratings.scale.values, count))
            for _ in range(budget.fakes)
        ),
    )
