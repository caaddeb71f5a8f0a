"""Hub clones: whole copies of users who are often neighbors.

`vicinity` copies a random part of each hub, within the budget. Here only users are cloned whose
whole row fits it, so that a clone lies where its hub does; targets are all that is added.

Shapes: U real users, k neighbors.
"""

import numpy as np

from common.ratings import RatingMatrix
from sims.attacks.budget import Budget, Profile, assemble, copied, places_of
from sims.attacks.neighborhoods import hubness


def hubclones_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    k: int = 80,
    hubs: int = 0,
    space: str = "embedding",
    model: str = "mf",
) -> RatingMatrix:
    """Whole rows of the users who fit the budget and whom most others have as a neighbor.

    k      neighbors that the attacker believes the defense to use, the user itself included;
           of fewer users, all
    hubs   how many users are cloned, in turn; 0 is one for each fake
    space  where neighbors are near: `embedding`, or `ratings` for the cosine of who rated what
    model  of the surrogate, where the space is that of its embeddings

    Raises InputError for more hubs than fakes. Of users who all are too long, the shortest are
    cloned, without their least popular items.
    """
    listed = hubness(ratings, budget, k=k, hubs=hubs, space=space, model=model, rng=rng)
    room = budget.profile_size - len(targets)
    fillers = np.bincount(
        ratings.users[~np.isin(ratings.items, targets)], minlength=ratings.user_count
    )
    over = np.maximum(fillers - room, 0)
    ranked = np.lexsort((rng.random(len(listed)), -listed, over))[: hubs or budget.fakes]
    rows = [whole_row(ratings, targets, user, room) for user in ranked]
    return assemble(ratings, targets, (rows[fake % len(rows)] for fake in range(budget.fakes)))


def whole_row(ratings: RatingMatrix, targets: tuple[int, ...], user: int, room: int) -> Profile:
    """All that a user rated but targets; beyond `room` the least popular items are left out."""
    places = places_of(ratings, targets, user)
    popular = ratings.item_counts()[ratings.items[places]]
    return copied(ratings, np.sort(places[np.argsort(-popular, kind="stable")[:room]]))
