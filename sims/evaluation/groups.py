"""Users of like taste, so that an attack on some of them is not lost in a mean over all.

Spherical k-means (Dhillon and Modha 2001, "Concept Decompositions for Large Sparse Text Data Using
Clustering", section 3) on rows of what users rated, started as k-means++ starts (Arthur and
Vassilvitskii 2007, section 2.2). Groups are the same wherever and however often they are made.

Shapes: B users, I items, g groups.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from common.ratings import RatingMatrix
from sims.numbers import stream

# Users of a group on average, and of the smallest one: fewer say little about a hit ratio.
USUAL: Final = 50
LEAST: Final = 20
MOST_GROUPS: Final = 20
ITERATIONS: Final = 20


def groups_of(ratings: RatingMatrix) -> NDArray[np.int64]:
    """The group of each row of `ratings`, [B]; group 0 is the largest.

    One group for every 50 users, at most 20, each of at least 20 users; a single group of fewer.
    """
    wanted = min(MOST_GROUPS, ratings.user_count // USUAL)
    if wanted < 2:
        return np.zeros(ratings.user_count, dtype=np.int64)
    rows = _directions(ratings)
    centers = _start(rows, wanted)
    chosen = _nearest(rows, centers)
    for _ in range(ITERATIONS):
        centers = _centers(rows, chosen, wanted)
        before, chosen = chosen, _nearest(rows, centers)
        if (before == chosen).all():
            break
    return _largest_first(_merged(rows @ centers.T, chosen))


def _directions(ratings: RatingMatrix) -> csr_array:
    """What each user rated as a vector of length 1, [B, I]."""
    lengths = np.sqrt(np.maximum(np.diff(ratings.indptr), 1))
    values = 1 / np.repeat(lengths, np.diff(ratings.indptr))
    shape = (ratings.user_count, ratings.item_count)
    return csr_array((values, ratings.items, ratings.indptr), shape=shape)


def _start(rows: csr_array, count: int) -> NDArray[np.float64]:
    """Rows far from each other: each is drawn by its squared distance to those before, [g, I]."""
    rng, size = stream(0, "groups"), rows.shape[0]
    chosen = [int(rng.integers(size))]
    distance = np.full(size, np.inf)
    for _ in range(1, count):
        likeness = rows @ rows[[chosen[-1]]].toarray()[0]
        distance = np.minimum(distance, np.maximum(2 - 2 * likeness, 0))
        bounds = np.cumsum(distance)
        # Users who all rated the same are one group: no distance is left to draw by.
        drawn = np.searchsorted(bounds, rng.random() * bounds[-1], side="right")
        chosen.append(min(int(drawn), size - 1))
    found: NDArray[np.float64] = rows[chosen].toarray()
    return found


def _nearest(rows: csr_array, centers: NDArray[np.float64]) -> NDArray[np.int64]:
    likeness: NDArray[np.float64] = rows @ centers.T
    nearest: NDArray[np.int64] = likeness.argmax(axis=1)
    return nearest


def _centers(rows: csr_array, chosen: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Mean directions, [g, I]; of a group without users zero, which is nearest to nobody."""
    size = rows.shape[0]
    members = csr_array((np.ones(size), (chosen, np.arange(size))), shape=(count, size))
    sums = (members @ rows).toarray()
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    centers: NDArray[np.float64] = sums / np.where(lengths > 0, lengths, 1)
    return centers


def _merged(likeness: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Users of the smallest group go to the next nearest ones until none is too small, [B]."""
    open_to, chosen = likeness.copy(), chosen.copy()
    while True:
        names, sizes = np.unique(chosen, return_counts=True)
        if len(names) == 1 or sizes.min() >= LEAST:
            return chosen
        smallest = names[sizes.argmin()]
        open_to[:, [name for name in range(open_to.shape[1]) if name not in names]] = -np.inf
        open_to[:, smallest] = -np.inf
        members = chosen == smallest
        chosen[members] = open_to[members].argmax(axis=1)


def _largest_first(chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    names, places, sizes = np.unique(chosen, return_inverse=True, return_counts=True)
    number = np.empty(len(names), dtype=np.int64)
    number[np.argsort(-sizes, kind="stable")] = np.arange(len(names))
    return number[places]
