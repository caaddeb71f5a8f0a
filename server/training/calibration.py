"""Factors of any origin, scaled so that their products read as ratings.

What ranks need not predict: scores of BPR or of implicit feedback lie on a scale of their own. The
fine-tune pulls predictions to ratings as fractions of the maximum, and to 0 where there is none, so
it has to start near them. One positive number leaves every ranking as it is:

    s = argmin Σ_{(u,i) ∈ Ω} (s r̂_ui − r_ui)² + α Σ_{(u,i) ∉ Ω} (s r̂_ui)²
      = Σ_Ω r r̂ / ((1 − α) Σ_Ω r̂² + α Σ r̂²),     Σ r̂² = ⟨PᵀP, QᵀQ⟩ over all pairs

Shapes: U users, I items, N observed ratings, d embedding width.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix

# α, which presets have others of: here it only says where a fine-tune starts.
UNRATED_WEIGHT: Final = 0.4
# Pairs whose products are formed at a time: 64 MB at a width of 64.
PAIRS_PER_CHUNK: Final = 1 << 17


def calibrated(
    users: NDArray[np.floating], items: NDArray[np.floating], ratings: RatingMatrix
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """P [U, d] and Q [I, d] times √s each; r̂ = P Qᵀ.

    Raises InputError for factors of other users or items, for numbers that are not finite, and for
    factors that no positive number brings nearer to the ratings.
    """
    rows = (len(users), len(items))
    if rows != (ratings.user_count, ratings.item_count) or users.shape[1:] != items.shape[1:]:
        raise InputError(
            f"factors {users.shape} and {items.shape} do not fit "
            f"{ratings.user_count} users × {ratings.item_count} items"
        )
    if not (np.isfinite(users).all() and np.isfinite(items).all()):
        raise InputError("factors: a number is not finite")
    root = np.float32(math.sqrt(scale(users, items, ratings)))
    return users.astype(np.float32) * root, items.astype(np.float32) * root


def scale(users: NDArray[np.floating], items: NDArray[np.floating], ratings: RatingMatrix) -> float:
    """s, for finite factors that fit. Raises InputError where it is not positive and finite."""
    products = squares = 0.0
    for start in range(0, len(ratings), PAIRS_PER_CHUNK):
        part = slice(start, start + PAIRS_PER_CHUNK)
        own, rated = users[ratings.users[part]], items[ratings.items[part]]
        predicted = np.einsum("nd,nd->n", own, rated, dtype=np.float64)
        products += float(predicted @ ratings.ratings[part])
        squares += float(predicted @ predicted)
    grams = [table.astype(np.float64).T @ table.astype(np.float64) for table in (users, items)]
    everywhere = float((grams[0] * grams[1]).sum())
    below = (1 - UNRATED_WEIGHT) * squares + UNRATED_WEIGHT * everywhere
    found = products / below if below > 0 else 0.0
    if not 0 < found < float("inf"):
        raise InputError("factors: on the whole they predict nothing where something was rated")
    return found
