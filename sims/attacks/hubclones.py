"""Hub clones: whole copies of users who are often neighbors.

`vicinity` copies a random part of each hub, within the budget. Here only users are cloned whose
whole row fits it, so that a clone lies where its hub does; targets are all that is added.

Shapes: U real users, k neighbors.
"""

import numpy as np

from common.errors import InputError
from common.ratings import RatingMatrix
from sims.attacks.budget import Budget, assemble
from sims.attacks.neighborhoods import SPACES, times_listed
from sims.attacks.options import check, choose


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

    k      neighbors that the attacker believes the defense to use, the user itself included
    hubs   how many users are cloned, in turn; 0 is one for each fake
    space  where neighbors are near: `embedding`, or `ratings` for the cosine of who rated what
    model  of the surrogate, where the space is that of its embeddings

    Raises InputError for more hubs than fakes. Of users who all are too long, the shortest are
    cloned, without their least popular items.
    """
    check("k", k, 2)
    check("hubs", hubs, 0)
    choose("space", space, SPACES)
    if hubs > budget.fakes:
        raise InputError(f"attack option hubs={hubs}: there are only {budget.fakes} fakes")
    seed = int(rng.integers(2**31))
    listed = times_listed(ratings, min(k, ratings.user_count), space=space, model=model, seed=seed)
    room = budget.profile_size - len(targets)
    fillers = np.bincount(
        ratings.users[~np.isin(ratings.items, targets)], minlength=ratings.user_count
    )
    over = np.maximum(fillers - room, 0)
    ranked = np.lexsort((rng.random(len(listed)), -listed, over))[: hubs or budget.fakes]
    rows = [whole_row(ratings, targets, user, room) for user in ranked]
    return assemble(ratings, targets, (rows[fake % len(rows)] for fake in range(budget.fakes)))


def whole_row(
    ratings: RatingMatrix, targets: tuple[int, ...], user: int, room: int
) -> tuple[np.ndarray, np.ndarray]:
    """A user's items and their ratings in the data set's units, without targets.

    Beyond `room` the least popular ones are left out.
    """
    row = np.arange(ratings.indptr[user], ratings.indptr[user + 1])
    row = row[~np.isin(ratings.items[row], targets)]
    popular = ratings.item_counts()[ratings.items[row]]
    row = np.sort(row[np.argsort(-popular, kind="stable")[:room]])
    return ratings.items[row].astype(np.int64), ratings.scale.values[ratings.levels[row]]
