"""User parameters that are derived from a row's ratings, to be held against sending them.

    v = argmin Σ_i (r̂_i(v) − r_i)² + ρ ‖v‖²

over the ratings of one row, everything but its vector v as in the model: one solve where scores
are linear in v, Gauss-Newton steps behind a sigmoid.

Shapes: k rows, n ratings of a row, d embedding width.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.models import sigmoid
from common.ratings import RatingMatrix
from common.vicinal.tuning import ServedModel

Table = NDArray[np.float32]

# The best of 0.1, 1, 3, 10 for mf and of 0.01, 0.1, 1 for cdae (ML-100K, preset vicinal).
RIDGE: Final = {"mf": 3.0, "cdae": 1.0}
_STEPS: Final = 3


def fold_in(served: ServedModel, ratings: RatingMatrix) -> Table:
    """The vectors of rows, [k, d]."""
    width = served.parameters["item_embedding"].shape[1]
    vectors = np.zeros((ratings.user_count, width), dtype=np.float32)
    for row, vector in enumerate(vectors):
        _solve(served, ratings.rows([row]), vector)
    return vectors


def _solve(served: ServedModel, ratings: RatingMatrix, vector: Table) -> None:
    """Find one row's vector, in place."""
    model, tables, observed = served.model, served.parameters, ratings.items
    items: Table = tables["item_embedding"][observed]
    start, bias = np.zeros_like(vector), np.zeros(1, dtype=np.float32)
    if model.inputs != "none":
        values = model.input_values(ratings.ratings, np.full(len(observed), len(observed)))
        start = values @ tables["input_embedding"][observed]
    if model.biases:
        start, bias = start + tables["hidden_bias"], tables["item_bias"][observed]
    ridge = np.float32(RIDGE[model.name]) * np.eye(len(vector), dtype=np.float32)
    for _ in range(_STEPS if model.sigmoid_output else 1):
        hidden = sigmoid(start + vector) if model.sigmoid_hidden else start + vector
        predicted = items @ hidden + bias
        slopes = items
        if model.sigmoid_output:
            predicted = sigmoid(predicted)
            slopes = slopes * (predicted * (1 - predicted))[:, None]
        if model.sigmoid_hidden:
            slopes = slopes * (hidden * (1 - hidden))
        gradient = slopes.T @ (predicted - ratings.ratings) + ridge @ vector
        vector -= np.linalg.solve(slopes.T @ slopes + ridge, gradient)
