"""Group: an attack on an audience of like-minded users, whom it wants to see the targets.

One user, drawn at random, and those nearest by the cosine of who rated what are the audience. All
fakes copy its mean: its most rated items at their means within it. What the average user sees
hardly changes; the hit ratio inside the audience, which the profiles name, is what to look at.

Shapes: U real users, n users in the audience.
"""

import numpy as np

from common.ratings import RatingMatrix
from sims.attacks.average import item_statistics
from sims.attacks.budget import Aimed, Budget, assemble, most_rated
from sims.attacks.neighborhoods import nearest_by_ratings
from sims.attacks.options import check


def group_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    audience: int = 50,
    fillers: int = 0,
) -> Aimed:
    """Copies of the mean of some like-minded users.

    audience  n, how many they are; of fewer users, all
    fillers   how many of their most rated items a fake rates; 0 is what the budget allows
    """
    check("audience", audience, 1)
    check("fillers", fillers, 0)
    center = int(rng.integers(ratings.user_count))
    count = min(audience, ratings.user_count) - 1
    around = nearest_by_ratings(ratings, count)[0][center]
    users = np.sort(np.append(around, center))
    among = ratings.rows(users)
    room = budget.profile_size - len(targets)
    chosen = most_rated(among, targets, min(fillers or room, room))
    means, _ = item_statistics(among)
    fakes = assemble(ratings, targets, [(chosen, means[chosen])] * budget.fakes)
    return Aimed(fakes, users)
