"""Average over popular: fakes that look like everybody, at their most ordinary.

Fillers are the items with most ratings, each at its mean: nearly every user shares some of them, so
the fakes lie near many users in any space, and near each other. All fakes are alike.
"""

import numpy as np

from common.ratings import RatingMatrix
from sims.attacks.average import item_statistics
from sims.attacks.budget import Budget, assemble, most_rated
from sims.attacks.options import check


def avgpop_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,  # nothing is left to chance
    popular: int = 30,
) -> RatingMatrix:
    """The most popular items at their means.

    popular  how many of them; no more than the budget allows
    """
    check("popular", popular, 0)
    chosen = most_rated(ratings, targets, min(popular, budget.profile_size - len(targets)))
    means, _ = item_statistics(ratings)
    return assemble(ratings, targets, [(chosen, means[chosen])] * budget.fakes)
