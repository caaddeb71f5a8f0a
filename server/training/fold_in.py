"""Parameters of users whom training has left out, so that they can still be asked.

Shapes: U users, B of them left out, I items, N ratings of a user, d embedding width.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.models import Model
from common.ratings import RatingMatrix

Tables = Mapping[str, NDArray[np.float32]]

# Of the mean diagonal of a user's Gram matrix: with fewer ratings than columns it has no inverse.
RIDGE: Final = 0.01


def with_left_out(
    model: Model,
    shared: Tables,
    kept_rows: Tables,
    ratings: RatingMatrix,
    left_out: NDArray[np.int64],
    *,
    unrated_weight: float = 0.0,
) -> dict[str, NDArray[np.float32]]:
    """User tables of all users of `ratings`, [U, …].

    shared          the model's tables that are no user's
    kept_rows       those of the users who are not left out, in order
    unrated_weight  α of the training

    A user vector that alone makes the embedding is the least-squares fit to the user's own ratings,
    items held fixed, as in training. Beside an encoder of the ratings, which says who the user is,
    it is the mean of the others'. A model without user vectors needs none.
    """
    kept = np.setdiff1d(np.arange(ratings.user_count), left_out)
    tables = {}
    for name, rows in kept_rows.items():
        table = np.empty((ratings.user_count, rows.shape[1]), dtype=np.float32)
        table[kept] = rows
        if model.inputs == "none":
            table[left_out] = fitted(
                shared["item_embedding"], ratings.rows(left_out), unrated_weight
            )
        else:
            table[left_out] = rows.mean(0)
        tables[name] = table
    return tables


def fitted(
    items: NDArray[np.float32], ratings: RatingMatrix, unrated_weight: float
) -> NDArray[np.float32]:
    """For each row of `ratings` the p that minimizes its part of the training's loss, [B, d].

    Σ_{i rated} (p · q_i − r_i)² + α Σ_{i not rated} (p · q_i)² + ridge ‖p‖²
    """
    table = items.astype(np.float64)
    everywhere = unrated_weight * (table.T @ table)
    vectors = np.zeros((ratings.user_count, table.shape[1]), dtype=np.float32)
    for user in range(ratings.user_count):
        start, end = ratings.indptr[user], ratings.indptr[user + 1]
        rows = table[ratings.items[start:end]]
        gram = everywhere + (1 - unrated_weight) * (rows.T @ rows)
        ridge = RIDGE * np.trace(gram) / len(gram)
        if ridge > 0:
            gram[np.diag_indices_from(gram)] += ridge
            vectors[user] = np.linalg.solve(gram, rows.T @ ratings.ratings[start:end])
    return vectors
