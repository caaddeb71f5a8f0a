"""Vectors of users that follow from their ratings and the model, where none is sent or known.

Of mf, p is the least-squares fit that its training would make of the ratings, with a weaker ridge:

    (QᵀQ + c Σ_i r_i q_i q_iᵀ + ρ s) p = Σ_i (1 + c r_i) q_i,   s = tr(QᵀQ) / d

where i goes over the items that the user rated. cdae's vector of a user is left at 0, since its
encoder reads the ratings themselves. The same rows give the same vectors to everybody.

Shapes: k rows, I items, d embedding width.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.models import Model
from common.ratings import RatingMatrix

# c and ρ, chosen on validation items (docs/decisions/0031-book.md).
CONFIDENCE: Final = 4.0
RIDGE: Final = 0.5
# Rows whose systems are held at a time.
SOLVED_AT_ONCE: Final = 32
# QᵀQ, [d, d].
Gram = NDArray[np.float32] | NDArray[np.float64]


def own_parameters(
    model: Model, items: NDArray[np.float32], gram: Gram, ratings: RatingMatrix
) -> dict[str, NDArray[np.float32]]:
    """A user's own parameters, from a row of ratings and the model, [1, d]; none without vectors.

    items  the model's item_embedding; gram: its Gram matrix
    """
    if not model.user_vector:
        return {}
    if model.inputs != "none":
        return {"user_embedding": np.zeros((1, items.shape[1]), dtype=np.float32)}
    return {"user_embedding": fitted(gram, items[ratings.items], ratings.ratings)}


def folded(
    model: Model, items: NDArray[np.float32], gram: Gram, ratings: RatingMatrix
) -> dict[str, NDArray[np.float32]]:
    """The same of each row, [k, d]."""
    rows, width = ratings.user_count, items.shape[1]
    if not model.user_vector:
        return {}
    vectors = np.zeros((rows, width), dtype=np.float32)
    if model.inputs == "none":
        shared = gram.astype(np.float64)
        for start in range(0, rows, SOLVED_AT_ONCE):
            systems, rights = [], []
            for row in range(start, min(start + SOLVED_AT_ONCE, rows)):
                own = slice(ratings.indptr[row], ratings.indptr[row + 1])
                system, right = _equation(shared, items[ratings.items[own]], ratings.ratings[own])
                systems.append(system)
                rights.append(right)
            found = np.linalg.solve(np.stack(systems), np.stack(rights)[:, :, None])
            vectors[start : start + len(systems)] = found[:, :, 0]
    return {"user_embedding": vectors}


def fitted(
    gram: Gram, rows: NDArray[np.float32], ratings: NDArray[np.float32]
) -> NDArray[np.float32]:
    """P from a user's own ratings, [1, d]; gram is QᵀQ, rows are q of the rated items."""
    system, right = _equation(gram.astype(np.float64, copy=False), rows, ratings)
    return np.linalg.solve(system, right)[None].astype(np.float32)


def _equation(
    shared: NDArray[np.float64], rows: NDArray[np.float32], ratings: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Its two sides, [d, d] and [d]; shared is QᵀQ."""
    table, weights = rows.astype(np.float64), CONFIDENCE * ratings.astype(np.float64)
    system: NDArray[np.float64] = (table.T * weights) @ table
    system.flat[:: len(system) + 1] += RIDGE * np.trace(shared) / len(shared) or 1.0
    system += shared
    return system, table.T @ (1 + weights)
