"""Nuke: items that many are shown are to be shown to fewer (Mobasher et al. 2007, section 3.3).

The targets are popular items, and every fake rates them at the minimum. `style` says what else:

    lovehate  other items at random, at the maximum: the love/hate attack
    rivals    the most popular other items, at the maximum: they take the targets' places in the
              lists, while the same fakes speak against the targets
    average   other items at random, each N(μ_i, σ_i)
"""

from typing import Final

import numpy as np

from common.ratings import RatingMatrix
from sims.attacks.average import item_statistics
from sims.attacks.budget import Budget, Profile, assemble, fillable, most_rated
from sims.attacks.options import choose

STYLES: Final = ("lovehate", "rivals", "average")


def nuke_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    style: str = "lovehate",
) -> RatingMatrix:
    """Targets at the minimum, and other items that rise instead.

    style  `lovehate`, `rivals` or `average`
    """
    choose("style", style, STYLES)
    means, deviations = item_statistics(ratings)
    others = fillable(ratings, targets)
    room = min(budget.profile_size - len(targets), len(others))
    rivals = most_rated(ratings, targets, room)

    def fake() -> Profile:
        if style == "rivals":
            return rivals, np.full(len(rivals), ratings.scale.maximum)
        items = rng.choice(others, room, replace=False)
        if style == "average":
            return items, rng.normal(means[items], deviations[items])
        return items, np.full(room, ratings.scale.maximum)

    return assemble(ratings, targets, (fake() for _ in range(budget.fakes)), goal="demote")
