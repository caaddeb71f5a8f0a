"""Vicinal fine-tuning by full-batch Adagrad and Adam, gradients by hand: the steps of training.

With α = 0 an item that no neighbor rated has no gradient; the state is fresh and nothing decays, so
neither optimizer ever moves it: only the touched rows of the item tables are copied. Both scale
coordinates, so with α > 0 untouched items share no map, and all items count as touched.

Shapes: k neighbors, T touched items, d embedding width.
"""

from collections.abc import Mapping
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.models import Model, Parameters, sigmoid_in_place
from common.ratings import RatingMatrix
from common.vicinal.entries import entries_of
from common.vicinal.settings import VicinalSettings

Table = NDArray[np.float32]

# Adagrad's sums of squares start at its square, which guards the division where a gradient has
# always been zero.
ADAGRAD_EPSILON: Final = 1e-10
# As published (Kingma and Ba 2015, Algorithm 1).
FIRST_DECAY: Final = 0.9
SECOND_DECAY: Final = 0.999
ADAM_EPSILON: Final = 1e-8


@final
class TouchedCopy:
    """Copies of the table rows that have a gradient in a neighborhood, and the steps on them.

    `item_table` are the output layer's rows, with their biases as a last column.

    tables           by name: the parameters of the encoder, and `items`, the output layer's touched
                     rows
    gradient_factor  makes derivatives of L_N of the gradients; optimizers take the same steps
                     without it, but where gradients are as small as their epsilon
    """

    def __init__(
        self,
        model: Model,
        parameters: Parameters,
        item_table: Table,
        ratings: RatingMatrix,
        settings: VicinalSettings,
    ) -> None:
        self._model = model
        self._entries = entries_of(ratings, settings.unrated_weight, item_table.dtype)
        self.tables: dict[str, Table] = {"items": item_table[self._entries.touched]}
        if model.inputs != "none":
            counts = np.repeat(np.diff(ratings.indptr), np.diff(ratings.indptr))
            self._inputs = self._entries.placed(model.input_values(ratings.ratings, counts))
            self.tables["input_embedding"] = parameters["input_embedding"][self._entries.touched]
        if model.biases:
            self.tables["hidden_bias"] = parameters["hidden_bias"].copy()
        if model.user_vector:
            self.tables["user_embedding"] = parameters["user_embedding"].copy()
        # Where gradients of item tables are written, at every step.
        self._out = {
            name: np.empty_like(self.tables[name])
            for name in ("items", "input_embedding")
            if name in self.tables
        }
        observed = max(len(ratings), 1)
        self.gradient_factor = 2 / observed
        self._proximal = settings.proximal_weight * observed
        self._start: Mapping[str, Table] = {}
        if self._proximal > 0:
            self._start = {name: table.copy() for name, table in self.tables.items()}

    def embedding(self) -> Table:
        """Embeddings as the output layer takes them, [k, d] or [k, d + 1]."""
        tables, model = self.tables, self._model
        pre: Table = np.zeros((), dtype=tables["items"].dtype)
        if model.inputs != "none":
            pre = self._entries.by_row(self._inputs, tables["input_embedding"])
        for name in ("hidden_bias", "user_embedding"):
            if name in tables:
                pre = pre + tables[name]
        hidden: Table = pre
        if model.sigmoid_hidden:
            sigmoid_in_place(hidden)
        if not model.biases:
            return hidden
        return np.concatenate([hidden, np.ones_like(hidden[:, :1])], axis=1)

    def objective(self) -> float:
        """|Ω_N| · L_N; NaN or infinite when the copy is."""
        moved = (self.tables[name] - start for name, start in self._start.items())
        distance = sum(float(np.vdot(change, change)) for change in moved)
        return self._entries.value(self._predicted(self.embedding())) + self._proximal * distance

    def gradients(self) -> dict[str, Table]:
        """Half the derivative of |Ω_N| · L_N by every table; the next call overwrites them."""
        model, entries, embedding = self._model, self._entries, self.embedding()
        signal = self._predicted(embedding)
        slopes = signal * (1 - signal) if model.sigmoid_output else None
        signal = entries.residuals(signal)
        if slopes is not None:
            signal *= slopes
        hidden_gradient = entries.by_row(signal, self.tables["items"])
        found = {"items": entries.by_item(signal, embedding, self._out["items"])}
        if model.biases:
            embedding, hidden_gradient = embedding[:, :-1], hidden_gradient[:, :-1]
        if model.sigmoid_hidden:
            hidden_gradient = hidden_gradient * (embedding * (1 - embedding))
        if model.inputs != "none":
            found["input_embedding"] = entries.by_item(
                self._inputs, hidden_gradient, self._out["input_embedding"]
            )
        if model.biases:
            found["hidden_bias"] = hidden_gradient.sum(axis=0)
        if model.user_vector:
            found["user_embedding"] = hidden_gradient
        pull = embedding.dtype.type(self._proximal)
        for name, start in self._start.items():
            found[name] = found[name] + pull * (self.tables[name] - start)
        return found

    def scores(self, item_table: Table) -> Table:
        """Predicted ratings of every item for row 0, [I]."""
        first = self.embedding()[0]
        scores: Table = item_table @ first
        scores[self._entries.touched] = self.tables["items"] @ first
        if self._model.sigmoid_output:
            sigmoid_in_place(scores)
        return scores

    def _predicted(self, embedding: Table) -> Table:
        scores = self._entries.scores(self.tables["items"], embedding)
        if self._model.sigmoid_output:
            sigmoid_in_place(scores)
        return scores


def adagrad_steps(copy: TouchedCopy, steps: int, learning_rate: float) -> None:
    """Full-batch Adagrad on L_N from a fresh state, all tables at once."""
    floor = (ADAGRAD_EPSILON / copy.gradient_factor) ** 2
    squares = {name: np.full_like(table, floor) for name, table in copy.tables.items()}
    scratch = {name: np.empty_like(table) for name, table in copy.tables.items()}
    for _ in range(steps):
        for name, gradient in copy.gradients().items():
            total, root, table = squares[name], scratch[name], copy.tables[name]
            np.multiply(gradient, gradient, out=root)
            total += root
            np.sqrt(total, out=root)
            np.divide(gradient, root, out=root)
            root *= learning_rate
            table -= root


def adam_steps(copy: TouchedCopy, steps: int, learning_rate: float) -> None:
    """Full-batch Adam on L_N from a fresh state (moments 0), all tables at once.

    Moments are kept as sums, Σ βⁿ g, which are the published means over 1 − β: two passes fewer.
    """
    firsts = {name: np.zeros_like(table) for name, table in copy.tables.items()}
    seconds = {name: np.zeros_like(table) for name, table in copy.tables.items()}
    scratch = {name: np.empty_like(table) for name, table in copy.tables.items()}
    for step in range(1, steps + 1):
        # Both moments start at 0 and are divided by how much of a mean they are by now.
        first_scale = (1 - FIRST_DECAY) / (1 - FIRST_DECAY**step)
        root_scale = ((1 - SECOND_DECAY) / (1 - SECOND_DECAY**step)) ** 0.5
        epsilon = ADAM_EPSILON / copy.gradient_factor / root_scale
        for name, gradient in copy.gradients().items():
            first, second, root = firsts[name], seconds[name], scratch[name]
            first *= FIRST_DECAY
            first += gradient
            np.multiply(gradient, gradient, out=root)
            second *= SECOND_DECAY
            second += root
            np.sqrt(second, out=root)
            root += epsilon
            np.divide(first, root, out=root)
            root *= learning_rate * first_scale / root_scale
            copy.tables[name] -= root
