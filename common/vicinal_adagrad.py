"""Vicinal fine-tuning by full-batch Adagrad, gradients by hand: the optimiser of training.

With α = 0 an item that no neighbor rated has no gradient, and Adagrad never moves it: only the
touched rows of the item tables are held. Adagrad scales coordinates, so with α > 0 untouched
items share no map, and every item is held.

Shapes: k neighbors, T touched items, d embedding width.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.models import Model, Parameters, sigmoid
from common.ratings import RatingMatrix
from common.settings import VicinalSettings
from common.vicinal_encoder import touched_inputs
from common.vicinal_output import OutputLayer

Table = NDArray[np.float32]

# Guards the division where a gradient has always been zero.
ADAGRAD_EPSILON: Final = np.float32(1e-10)


@final
class TouchedCopy:
    """The rows of a model's tables that a neighborhood can move, to be moved.

    tables  by name: the parameters of the encoder, and `items`, the output layer's rows with
            their biases as a last column
    """

    def __init__(
        self, model: Model, parameters: Parameters, ratings: RatingMatrix, output: OutputLayer
    ) -> None:
        self._model = model
        self._output = output
        self.tables: dict[str, Table] = {}
        if model.inputs != "none":
            dtype = parameters["item_embedding"].dtype
            touched, self._inputs = touched_inputs(model, ratings, dtype)
            self.tables["input_embedding"] = parameters["input_embedding"][touched]
        if model.biases:
            self.tables["hidden_bias"] = parameters["hidden_bias"].copy()
        if model.user_vector:
            self.tables["user_embedding"] = parameters["user_embedding"].copy()
        self._start = {name: table.copy() for name, table in self.tables.items()}
        self.tables["items"] = output.items
        self._start["items"] = output.start
        self._observed = max(len(ratings), 1)

    def embedding(self) -> Table:
        """Embeddings as the output layer takes them, [k, d] or [k, d + 1]."""
        tables, model = self.tables, self._model
        pre: Table = np.zeros((), dtype=tables["items"].dtype)
        if model.inputs != "none":
            pre = self._inputs @ tables["input_embedding"]
        for name in ("hidden_bias", "user_embedding"):
            if name in tables:
                pre = pre + tables[name]
        hidden: Table = sigmoid(pre) if model.sigmoid_hidden else pre
        if not model.biases:
            return hidden
        return np.concatenate([hidden, np.ones_like(hidden[:, :1])], axis=1)

    def objective(self, settings: VicinalSettings) -> float:
        """L_N; NaN or infinite when the copy is."""
        moved = (table - self._start[name] for name, table in self.tables.items())
        distance = sum(float(np.vdot(change, change)) for change in moved)
        value = self._output.fit(self.embedding()).value
        return value / self._observed + settings.proximal_weight * distance

    def gradients(self, settings: VicinalSettings) -> dict[str, Table]:
        """The derivative of L_N by every table."""
        model, embedding = self._model, self.embedding()
        fit = self._output.fit(embedding)
        found = {"items": self._output.item_gradient(fit, embedding)}
        hidden_gradient = self._output.embedding_gradient(fit, embedding)
        if model.biases:
            embedding, hidden_gradient = embedding[:, :-1], hidden_gradient[:, :-1]
        if model.sigmoid_hidden:
            hidden_gradient = hidden_gradient * (embedding * (1 - embedding))
        if model.inputs != "none":
            found["input_embedding"] = self._inputs.T @ hidden_gradient
        if model.biases:
            found["hidden_bias"] = hidden_gradient.sum(axis=0)
        if model.user_vector:
            found["user_embedding"] = hidden_gradient
        factor = embedding.dtype.type(2 / self._observed)
        pull = embedding.dtype.type(2 * settings.proximal_weight)
        return {
            name: factor * found[name] + pull * (table - self._start[name])
            for name, table in self.tables.items()
        }


def adagrad_steps(copy: TouchedCopy, settings: VicinalSettings, learning_rate: float) -> None:
    """Full-batch Adagrad on L_N from a fresh state (sums of squares 0), all tables at once."""
    squares = {name: np.zeros_like(table) for name, table in copy.tables.items()}
    for _ in range(settings.steps):
        for name, gradient in copy.gradients(settings).items():
            squares[name] += gradient * gradient
            gradient *= gradient.dtype.type(learning_rate)
            gradient /= np.sqrt(squares[name]) + ADAGRAD_EPSILON
            copy.tables[name] -= gradient
