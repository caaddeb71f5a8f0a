"""Synthetic choices of very many users, in loops for numba: a table of all pairs would not fit.

Users are of some kinds, and each kind has its own weights of items. A user draws items by the
weights of the kind, with replacement, and what was drawn before does not count: these are draws
without replacement.

Shapes: U users, I items, N ratings, K kinds.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])

# Who drew so many times what is wanted, and has still too little, takes the rest by a race.
PATIENCE: Final = 20


def _compiled(function: Function) -> Function:
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def choose(
    weights: NDArray[np.float32],
    kinds: NDArray[np.int64],
    activity: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Items of every rating [N], users ascending; those of a user are distinct.

    weights   of items, positive, by kind [K, I]
    kinds     of users [U]
    activity  how many items each user wants [U], at most I
    """
    sums = np.cumsum(weights, axis=1, dtype=np.float64)
    ends = np.cumsum(activity)
    chosen = np.empty(int(ends[-1]), dtype=np.int32)
    _choose(weights, sums, kinds, ends - activity, ends, rng, chosen)
    return chosen


def sort_rows(indptr: NDArray[np.int64], items: NDArray[np.int32]) -> None:
    """Every user's items in ascending order, in place."""
    _sort_rows(indptr, items)


@_compiled
def _choose(
    weights: NDArray[np.float32],
    sums: NDArray[np.float64],
    kinds: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    rng: np.random.Generator,
    chosen: NDArray[np.int32],
) -> None:
    count = weights.shape[1]
    owner = np.full(count, -1, dtype=np.int64)
    times = np.empty(count, dtype=np.float64)
    for user in range(len(kinds)):
        place, end = starts[user], ends[user]
        of_kind = sums[kinds[user]]
        for _ in range(PATIENCE * (end - place)):
            if place == end:
                break
            item = min(np.searchsorted(of_kind, rng.random() * of_kind[-1], "right"), count - 1)
            if owner[item] != user:
                owner[item] = user
                chosen[place] = item
                place += 1
        if place < end:
            # The race of exponentials: the first of them are draws without replacement.
            for item in range(count):
                times[item] = rng.standard_exponential() / weights[kinds[user], item]
                if owner[item] == user:
                    times[item] = np.inf
            order = np.argsort(times)
            for rank in range(end - place):
                chosen[place + rank] = order[rank]


@_compiled
def _sort_rows(indptr: NDArray[np.int64], items: NDArray[np.int32]) -> None:
    for user in range(len(indptr) - 1):
        items[indptr[user] : indptr[user + 1]].sort()
