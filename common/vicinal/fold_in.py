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
    gram = gram.astype(np.float64)
    rows = [
        own_parameters(model, items, gram, ratings.rows([row])) for row in range(ratings.user_count)
    ]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def fitted(
    gram: Gram, rows: NDArray[np.float32], ratings: NDArray[np.float32]
) -> NDArray[np.float32]:
    """P from a user's own ratings, [1, d]; gram is QᵀQ, rows are q of the rated items."""
    shared, table = gram.astype(np.float64, copy=False), rows.astype(np.float64)
    weights = CONFIDENCE * ratings.astype(np.float64)
    system = (table.T * weights) @ table
    system[np.diag_indices_from(system)] += RIDGE * np.trace(shared) / len(shared) or 1.0
    system += shared
    fitted = np.linalg.solve(system, table.T @ (1 + weights))
    return fitted[None].astype(np.float32)
