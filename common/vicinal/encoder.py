"""The encoder of a copy that is being fine-tuned, in dual form.

A pre-activation is linear in the encoder's parameters, a_v = φ_v θ, where φ_v holds the inputs
of row v, 1 for a bias and a one for the row's own vector. Gradients lie in the span of the k
rows, θ = θ⁰ + Φᵀ C, so that the Gram matrix G = ΦΦᵀ [k, k] says it all: a = a⁰ + G C, and
‖θ − θ⁰‖² = tr(Cᵀ G C). No table of inputs × d is touched after the first pass.

Shapes: k neighbors, T touched items, d embedding width.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.models import Model, Parameters, sigmoid
from common.ratings import RatingMatrix
from common.vicinal.curvature import SharedCurvature
from common.vicinal.entries import places, touched_items
from common.vicinal.output import Fit, OutputLayer

Table = NDArray[np.float32]

# Keeps G invertible when rows are alike or empty, as a share of its mean diagonal.
RIDGE: Final = 1e-3


# A step longer than this in a pre-activation leaves the region where its slope says much.
MAX_MOVE: Final = 1.0
# A step that would raise the objective is halved at most this often, then left out.
MAX_HALVINGS: Final = 10
# What rounding may add to an objective that did not rise.
SLACK: Final = 1e-6


@final
class DualEncoder:
    """Pre-activations a [k, d] and the coefficients C [k, d] that led to them.

    `proximal` is λ·|Ω_N|, since the common factor 1/|Ω_N| is left out here.
    """

    def __init__(
        self, model: Model, parameters: Parameters, ratings: RatingMatrix, *, proximal: float
    ) -> None:
        self._model = model
        items: Table = parameters["item_embedding"]
        self._pre = np.zeros((ratings.user_count, items.shape[1]), dtype=items.dtype)
        # Rows that share nothing: G is 1, and the k × k matrices are left out.
        self._alone = model.inputs == "none" and not model.biases
        # Their steps never raise the objective.
        self._free = self._alone and not model.sigmoid_hidden and not model.sigmoid_output
        gram = np.zeros((len(self._pre), len(self._pre)))
        if model.inputs != "none":
            touched = touched_items(ratings)
            rows = np.zeros((len(self._pre), len(touched)), dtype=items.dtype)
            rows[ratings.users, places(ratings, touched)] = ratings.ratings
            inputs = model.input_rows(rows)
            self._pre += inputs @ parameters["input_embedding"][touched]
            gram += inputs @ inputs.T
        if model.biases:
            self._pre += parameters["hidden_bias"]
            gram += 1
        if model.user_vector:
            self._pre += parameters["user_embedding"]
            gram.flat[:: len(gram) + 1] += 1
        self._start, self._coefficients = self._pre, np.zeros_like(self._pre)
        self._gram: Table = gram.astype(items.dtype)
        self._inverse: Table = self._gram
        if not self._alone:
            self._inverse = _inverse(gram, exact=model.user_vector).astype(items.dtype)
        self._proximal = items.dtype.type(proximal)
        # In units of a: ‖θ − θ⁰‖² is about ‖a − a⁰‖² over this.
        self._scale = items.dtype.type(np.trace(gram) / len(gram) or 1.0)

    @property
    def embedding(self) -> Table:
        """What the output layer takes: z, and a column of ones where there are biases."""
        return self._embedded(self._pre)

    def step(self, output: OutputLayer, basis: Table) -> Fit:
        """Step towards the embeddings that the output layer wants; the fit at the new ones.

        The wanted change of every row's embedding is its gradient over its curvature bound,
        in an eigenbasis of the items. The encoder's parameters take the least change that
        gives it. Shared parameters serve all rows at once, and a sigmoid bends: a step that
        would raise the objective is halved. Rows that share nothing, with linear scores, need no
        such check.
        """
        embedding = self._embedded(self._pre)
        if self._free:
            fit = output.fit(embedding, valued=False)
            change = self._wanted(output, fit, embedding, basis)
            self._pre, self._coefficients = self._pre + change, self._coefficients + change
            return output.fit(self._pre, valued=False)
        before = output.fit(embedding)
        limit = before.value + self._penalty(self._coefficients)
        wanted = self._wanted(output, before, embedding, basis)
        for _ in range(MAX_HALVINGS):
            change = wanted if self._alone else self._inverse @ wanted
            coefficients = self._coefficients + change
            pre: Table = self._pre + (change if self._alone else self._gram @ change)
            after = output.fit(self._embedded(pre))
            if after.value + self._penalty(coefficients) <= limit * (1 + SLACK):
                self._pre, self._coefficients = pre, coefficients
                return after
            wanted *= 0.5
        return output.fit(embedding)

    def _wanted(self, output: OutputLayer, fit: Fit, embedding: Table, basis: Table) -> Table:
        width = self._pre.shape[1]
        shared, own = output.embedding_curvature(width)
        gradient = output.embedding_gradient(fit, embedding)[:, :width]
        slope = np.ones_like(self._pre)
        if self._model.sigmoid_hidden:
            hidden = embedding[:, :width]
            # Where the slope underflows there is no gradient either.
            slope = np.maximum(hidden * (1 - hidden), np.finfo(hidden.dtype).tiny)
        if self._proximal > 0:
            # Not C itself: what G sends to 0 may be large in it, and moves nothing.
            pull = self._inverse @ (self._pre - self._start)
            gradient = gradient + self._proximal * pull / slope
        curvature = SharedCurvature(shared, basis)
        divided = curvature.divide(gradient, own, self._proximal / self._scale)
        if not self._model.sigmoid_hidden:
            return -divided
        with np.errstate(over="ignore"):  # a move past the largest number is clipped like others
            moved: Table = np.clip(-divided / slope, -MAX_MOVE, MAX_MOVE)
        return moved

    def _penalty(self, coefficients: Table) -> float:
        if self._proximal == 0:
            return 0.0
        return float(self._proximal * np.vdot(self._gram @ coefficients, coefficients))

    def _embedded(self, pre: Table) -> Table:
        hidden: Table = sigmoid(pre) if self._model.sigmoid_hidden else pre
        if not self._model.biases:
            return hidden
        return np.concatenate([hidden, np.ones_like(hidden[:, :1])], axis=1)


def _inverse(gram: NDArray[np.float64], *, exact: bool) -> NDArray[np.float64]:
    """Of a Gram matrix [k, k]; with a ridge unless it is known to be regular."""
    ridge = 0.0 if exact else RIDGE * np.trace(gram) / len(gram) or 1.0
    inverse: NDArray[np.float64] = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    return inverse
