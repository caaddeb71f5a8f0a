"""Flood: the fakes are all near one neighborhood, around the profiles of the real users in it.

A defense that counts raters within a group of like users is attacked where that group is small: the
fakes become most of it. Each copies a real user of the neighborhood whole, as far as the budget
goes, and a share of its fillers is exchanged for others that the neighborhood rates, so that no two
fakes are the same, and none is a row of the data. `group` copies a neighborhood's mean instead;
`hubclones` and `covering` spread over as many neighborhoods as they can. It is this project's own.

Shapes: U real users, n users in the neighborhood.
"""

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from sims.attacks.average import item_statistics
from sims.attacks.budget import Aimed, Budget, Profile, assemble, most_rated
from sims.attacks.hubclones import whole_row
from sims.attacks.neighborhoods import nearest_by_ratings
from sims.attacks.options import check


def flood_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    around: int = 24,
    exchanged: float = 0.1,
) -> Aimed:
    """Near copies of the real users of one neighborhood, in turn.

    around     n, how many users it has; of fewer users, all
    exchanged  share of a copy's fillers that are others, which the neighborhood rates

    Raises InputError for a share outside of 0–1.
    """
    check("around", around, 1)
    if not 0 <= exchanged <= 1:
        raise InputError(f"attack option exchanged={exchanged:g}: give a share in 0–1")
    center = int(rng.integers(ratings.user_count))
    count = min(around, ratings.user_count) - 1
    near = nearest_by_ratings(ratings, count)[0][center]
    users = np.append(center, near)
    among = ratings.rows(users)
    room = budget.profile_size - len(targets)
    liked = most_rated(among, targets, 2 * room + 1)
    means, _ = item_statistics(among)
    copied = [
        _exchanged(
            whole_row(ratings, targets, int(users[fake % len(users)]), room),
            liked,
            means,
            share=exchanged,
            room=room,
            rng=rng,
        )
        for fake in range(budget.fakes)
    ]
    return Aimed(assemble(ratings, targets, copied), np.sort(users))


def _exchanged(
    profile: Profile,
    liked: NDArray[np.int64],
    means: NDArray[np.float64],
    *,
    share: float,
    room: int,
    rng: np.random.Generator,
) -> Profile:
    """Some fillers drawn out, and as many of `liked` in, at their means; short ones grow."""
    items, values = profile
    kept = np.sort(rng.permutation(len(items))[: len(items) - round(share * len(items))])
    others = np.setdiff1d(liked, items[kept])
    wanted = min(max(len(items), room // 2) - len(kept), room - len(kept), len(others))
    drawn = rng.choice(others, max(wanted, 0), replace=False)
    return np.append(items[kept], drawn), np.append(values[kept], means[drawn])
