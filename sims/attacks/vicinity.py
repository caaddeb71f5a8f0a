"""The adaptive attack: the attacker knows the defense and puts its fakes inside neighborhoods.

RVD fine-tunes on a user's k nearest neighbors. So the attacker trains a surrogate as the server
does, on the real ratings, guesses k, and looks for hubs: users whom most others list among their
k nearest. Each fake clones a random part of a hub's profile, with its real ratings, so that
training puts it near the hub, and adds the targets. Many hubs reach many neighborhoods with one
fake each; few hubs (`hubs=1`) put many fakes into each neighborhood that they do reach. Where the
defense takes neighbors by ratings, the attacker does, too (`space=ratings`).

Shapes: U real users, k neighbors.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from sims.attacks.budget import Budget, Profile, assemble, copied, places_of
from sims.attacks.neighborhoods import hubness


def vicinity_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    k: int = 40,
    hubs: int = 0,
    model: str = "mf",
    space: str = "embedding",
) -> RatingMatrix:
    """Clones of hubs: the users whom most others have as a neighbor.

    k      neighbors that the attacker believes the defense to use, the user itself included;
           of fewer users, all
    hubs   how many users are cloned, in turn; 0 is one for each fake
    model  of the surrogate, as in --model
    space  where neighbors are near: `embedding`, or `ratings` for the cosine of who rated what

    Raises InputError for more hubs than fakes.
    """
    listed = hubness(ratings, budget, k=k, hubs=hubs, space=space, model=model, rng=rng)
    # Among users who are listed equally often, one with more ratings has more to clone.
    busy = np.diff(ratings.indptr)
    best = np.lexsort((-busy, -listed))[: hubs or budget.fakes]
    return assemble(ratings, targets, _clones(ratings, targets, budget, best, rng))


def _clones(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    hubs: NDArray[np.int64],
    rng: np.random.Generator,
) -> Iterator[Profile]:
    room = budget.profile_size - len(targets)
    for fake in range(budget.fakes):
        places = places_of(ratings, targets, int(hubs[fake % len(hubs)]))
        if len(places) > room:
            places = rng.choice(places, room, replace=False)
        yield copied(ratings, places)
