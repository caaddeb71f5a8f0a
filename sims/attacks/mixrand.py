"""MixRand (Wu et al. 2023, "Influence-driven data poisoning for robust recommender systems").

A fake is a mixture of two random real users, v = p·u_a + (1 − p)·u_b with p ~ Beta(½, ½) and
a little noise, where an item that a user did not rate counts as 0. What rounds to less than
the lowest rating is no rating. Over budget, random fillers are dropped.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from sims.attacks.budget import Budget, assemble

# Half-width of the noise on a mixed rating, as a fraction of the scale's maximum.
NOISE: Final = 0.01


def mixrand_attack(
    ratings: RatingMatrix, targets: tuple[int, ...], budget: Budget, *, rng: np.random.Generator
) -> RatingMatrix:
    def fakes() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        for _ in range(budget.fakes):
            mixed = usermix(ratings, rng=rng)
            mixed[list(targets)] = 0
            items = np.flatnonzero(mixed)
            room = budget.profile_size - len(targets)
            if len(items) > room:
                items = rng.choice(items, room, replace=False)
            yield items, mixed[items]

    return assemble(ratings, targets, fakes())


def usermix(ratings: RatingMatrix, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """One mixed rating vector in the data set's units, 0 where nothing is rated, [I]."""
    scale = ratings.scale
    first, second = rng.choice(ratings.user_count, 2, replace=False)
    share = rng.beta(0.5, 0.5)
    mixed = np.zeros(ratings.item_count)
    for user, weight in ((first, share), (second, 1 - share)):
        row = slice(ratings.indptr[user], ratings.indptr[user + 1])
        mixed[ratings.items[row]] += weight * ratings.ratings[row]
    rated = np.flatnonzero(mixed)
    mixed[rated] += rng.uniform(-NOISE, NOISE, len(rated))
    mixed *= scale.maximum
    mixed[np.rint((mixed - scale.minimum) / scale.step) < 0] = 0
    return mixed
