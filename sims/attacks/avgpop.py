"""Average over popular: fakes that look like everybody, at their most ordinary.

Fillers are the items with most ratings, each at its mean: nearly every user shares some of them, so
the fakes lie near many users in any space, and near each other. With a `pool` each fake draws its
own fillers among that many of the most popular items; without, all fakes are alike.
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
    rng: np.random.Generator,
    popular: int = 30,
    pool: int = 0,
) -> RatingMatrix:
    """The most popular items at their means.

    popular  how many of them; no more than the budget allows
    pool     how many of the most popular a fake draws them from; 0 for no more than it rates
    """
    check("popular", popular, 0)
    check("pool", pool, 0)
    count = min(popular, budget.profile_size - len(targets))
    known = most_rated(ratings, targets, max(pool, count))
    means, _ = item_statistics(ratings)
    fakes = []
    for _ in range(budget.fakes):
        chosen = known
        if len(known) > count:
            chosen = rng.choice(known, count, replace=False)
        fakes.append((chosen, means[chosen]))
    return assemble(ratings, targets, fakes)
