"""Synthetic ratings of many users: who rated what, as skewed as MovieLens 25M, and nothing else.

server.data.synthetic weighs every user against every item, which is too much for 10¹⁰ pairs. Here
users draw items from one of a few popularities, so that there are users with a taste in common.

Loops for numba. Shapes: U users, I items, N ratings, G groups of users.
"""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix, RatingScale

SCALE: Final = RatingScale(1, 5, 1)
# Roughly how often items of some ranks are rated in MovieLens 25M; between them it falls in
# straight lines of logarithms. A user rates no item twice, which flattens the top: the power sets
# that right.
RANKS: Final = (1, 10, 100, 300, 1000, 3000, 5000, 10_000, 20_000, 30_000, 59_047)
RATED: Final = (81_491, 68_000, 35_000, 20_000, 6_500, 1_300, 550, 120, 20, 5, 1)
POWER: Final = 1.15
# Ratings of a user: LEAST and a log-normal number, of median 51 at a mean of 154.
LEAST: Final = 20
MEDIAN: Final = 51
ACTIVITY_SPREAD: Final = 1.39
GROUPS: Final = 20
TASTE_SPREAD: Final = 0.7


def skewed_ratings(users: int, items: int, count: int, *, seed: int = 0) -> RatingMatrix:
    """About `count` ratings, all of the lowest level."""
    rng = np.random.default_rng(seed)
    activity = LEAST + MEDIAN * np.exp(ACTIVITY_SPREAD * rng.standard_normal(users))
    lengths = np.clip(activity * count / activity.sum(), 1, items // 3).astype(np.int64)
    ranks = np.linspace(1, RANKS[-1], items)
    popularity = np.exp(POWER * np.interp(np.log(ranks), np.log(RANKS), np.log(RATED)))
    taste = np.exp(TASTE_SPREAD * rng.standard_normal((GROUPS, items)))
    ends = np.cumsum(rng.permuted(popularity) * taste, axis=1)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    chosen = _choose(indptr, rng.integers(0, GROUPS, users), ends / ends[:, -1:], rng)
    levels = np.zeros(len(chosen), dtype=np.uint8)
    return RatingMatrix(indptr, chosen, levels, items, SCALE)


@numba.njit(cache=True)
def _choose(
    indptr: NDArray[np.int64],
    group: NDArray[np.int64],
    ends: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Different items for every user, ascending; `ends` are their added-up chances, [G, I]."""
    chosen = np.empty(indptr[-1], dtype=np.int32)
    owner = np.full(ends.shape[1], -1, dtype=np.int64)
    for user in range(len(indptr) - 1):
        n = indptr[user]
        while n < indptr[user + 1]:
            drawn = np.searchsorted(ends[group[user]], rng.random())
            item = min(drawn, ends.shape[1] - 1)
            if owner[item] != user:
                owner[item] = user
                chosen[n] = item
                n += 1
        chosen[indptr[user] : n].sort()
    return chosen
