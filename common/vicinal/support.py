"""The ranking of items that too few rows of a neighborhood rated: below all others.

Shapes: I items.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix

# SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FACTORS: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS: Final = (np.uint64(30), np.uint64(27), np.uint64(31))
# Of a hash, what a float32 keeps.
_KEPT_BITS: Final = 24


def unsupported_last(scores: NDArray[np.float32], ratings: RatingMatrix) -> NDArray[np.float32]:
    """The scores [I], with items that no row of `ratings` has below all others, in random order.

    What a model says of them comes from its training alone, which an attacker has written to,
    and a list that is longer than the supported items reaches them. Their order is drawn from
    row 0's items: it differs from user to user, is the same on every machine, and no other
    user's rating of an item moves that item. Where min support took items out of row 0, another
    neighborhood may have another order.
    """
    supported = np.zeros(len(scores), dtype=bool)
    supported[ratings.items] = True
    return unlisted_last(scores, supported, ratings.items_of(0))


def unlisted_last(
    scores: NDArray[np.float32], listed: NDArray[np.bool_], own: NDArray[np.int32]
) -> NDArray[np.float32]:
    """The scores [I], with items that are not `listed` [I] last, in an order drawn from `own`."""
    lowest = scores[listed].min(initial=0.0)
    # In steps that are large enough beside the lowest score to be seen in it.
    below = max(1.0, abs(lowest)) * (1 + draws(len(scores), own))
    return np.where(listed, scores, lowest - below).astype(scores.dtype, copy=False)


def draws(count: int, items: NDArray[np.int32], *, purpose: int = 0) -> NDArray[np.float32]:
    """A number in [0, 1) for each of `count` items, decided by a set of items.

    Draws of one `purpose` say nothing of those of another.
    """
    with np.errstate(over="ignore"):  # it is meant to wrap
        seed = scattered(items.astype(np.uint64) + np.uint64(1)).sum(dtype=np.uint64)
        seed += np.uint64(purpose) * _FACTORS[0]
        mixed = scattered(seed + np.arange(1, count + 1, dtype=np.uint64) * _STEP)
    kept = (mixed >> np.uint64(64 - _KEPT_BITS)).astype(np.float32)
    return kept / np.float32(1 << _KEPT_BITS)


def scattered(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Other numbers, one for each and no two the same: SplitMix64's finalizer."""
    for shift, factor in zip(_SHIFTS[:2], _FACTORS, strict=True):
        values = (values ^ (values >> shift)) * factor
    return values ^ (values >> _SHIFTS[2])
