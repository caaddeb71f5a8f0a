"""Loops for numba over who rated what: compiled when first called, and kept on disk.

Nothing here may be reordered or approximated by the compiler (no fastmath): counts are integers,
and a key is one correctly rounded division, so every machine gets the same numbers.

Shapes: U users, I items, N ratings, n users in an order.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Items = NDArray[np.int32]
Function = TypeVar("Function", bound=Callable[..., Any])


def exactly(function: Function) -> Function:
    """Compiled as it is written."""
    made = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast(Function, made)


@exactly
def posting_lists(indptr: Indices, items: Items, item_count: int) -> tuple[Indices, Items]:
    """The users who rated each item, ascending: where every list starts [I + 1], and users [N]."""
    starts = np.zeros(item_count + 1, dtype=np.int64)
    for item in items:
        starts[item + 1] += 1
    for item in range(item_count):
        starts[item + 1] += starts[item]
    users = np.empty(len(items), dtype=np.int32)
    free = starts[:-1].copy()
    for user in range(len(indptr) - 1):
        for n in range(indptr[user], indptr[user + 1]):
            users[free[items[n]]] = user
            free[items[n]] += 1
    return starts, users


@exactly
def shared_counts(rated: Items, starts: Indices, users: Items, user_count: int) -> Items:
    """How many of some items every user rated, [U]."""
    counts = np.zeros(user_count, dtype=np.int32)
    for item in rated:
        for n in range(starts[item], starts[item + 1]):
            counts[users[n]] += 1
    return counts


@exactly
def supported_prefix(
    order: Indices,
    indptr: Indices,
    items: Items,
    unrated: NDArray[np.bool_],
    support: int,
    wanted: int,
) -> int:
    """The least number of users of `order` who give `wanted` unrated items `support` ratings."""
    counts = np.zeros(len(unrated), dtype=np.int32)
    found = 0
    for place in range(len(order)):
        user = order[place]
        for n in range(indptr[user], indptr[user + 1]):
            item = items[n]
            if unrated[item]:
                counts[item] += 1
                if counts[item] == support:
                    found += 1
        if found >= wanted:
            return place + 1
    return len(order)
