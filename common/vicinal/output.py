"""The output layer of a copy that is being fine-tuned: items against embeddings.

With linear scores only items that a neighbor rated ("touched") have rows here. All other items
feel the same pull, α z_v z_vᵀ summed over the neighborhood, so they move by one shared linear
map M: q_i = M q_i⁰. Their share of the objective and of an embedding's gradient needs only their
Gram matrix. A step costs O(k·T·d + d³), whatever the number of items. Behind a sigmoid the pull
depends on the item, and with α > 0 all items count as touched.

Biases are a last column of the item table, against a last column of ones in the embeddings.

Shapes: k neighbors, T touched items, I items, d width of the item table.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.models import sigmoid_in_place
from common.ratings import RatingMatrix
from common.vicinal.curvature import SharedCurvature, eigenbasis
from common.vicinal.entries import places, touched_items

Table = NDArray[np.float32]

# Half the second derivative of (σ(y) − r)² is at most this for every y and 0 ≤ r ≤ 1: it is
# linear in r, and for r = 0 it is σ²(1 − σ)(2 − 3σ), largest where 12σ² − 15σ + 4 = 0.
SIGMOID_CURVATURE: Final = 0.0771
# Near y the curvature is about σ'(y)², often far less than the bound. An item tries a step by
# this share of its largest first, and takes the bound's if that raises its objective.
BOLD_SHARE: Final = 0.5
# Where a sigmoid is flat, a step by its curvature would go anywhere.
FLATTEST: Final = 1e-4


@dataclass(frozen=True)
class Fit:
    """Value and derivative of the objective's squared errors at some embeddings.

    The value is Σ_Ω (r̂ − r)² + α Σ r̂² over all items, |Ω_N| · L_N without the proximal term.

    signal    half the value's derivative by every touched item's scores, [T, k]; a buffer
    per_item  the value's part of every touched item, [T]; none where it was not asked for
    rest      the value's part of all other items
    """

    signal: Table
    per_item: Table
    rest: float = 0.0

    @property
    def value(self) -> float:
        return float(self.per_item.astype(np.float64).sum()) + self.rest


@final
class OutputLayer:
    """Touched items' rows, the other items' map, and how they fit embeddings.

    table [I, d] is the model's, gram = tableᵀ table. `proximal` is λ·|Ω_N|, since the common
    factor 1/|Ω_N| is left out here.

    From the first step on, touched rows are kept in the basis that steps are divided in: turning
    embeddings there costs less than turning every item's step.
    """

    def __init__(
        self,
        table: Table,
        gram: Table,
        ratings: RatingMatrix,
        *,
        alpha: float,
        proximal: float,
        sigmoid_output: bool,
        all_items: bool,
    ) -> None:
        kind = table.dtype.type
        touched = np.arange(len(table)) if all_items else touched_items(ratings)
        shape = (len(touched), ratings.user_count)
        entries = places(ratings, touched) * ratings.user_count + ratings.users
        self._touched = touched
        self._targets = np.zeros(shape, dtype=table.dtype)
        self._targets.put(entries, ratings.ratings)
        self._observed = np.zeros(shape, dtype=table.dtype)
        self._observed.put(entries, 1)
        self._weights = self._observed
        if alpha > 0:
            self._weights = np.maximum(self._observed, kind(alpha))

        self._alpha, self._proximal = kind(alpha), kind(proximal)
        self._sigmoid = sigmoid_output
        self._bound = kind(SIGMOID_CURVATURE if sigmoid_output else 1)
        self._all = table
        self._items = table[touched]
        self._start = self._items.copy() if proximal > 0 else self._items
        # Behind a sigmoid, untouched items do not move: α is 0, or none is untouched.
        self._rest_moves = alpha > 0 and not all_items
        self._map: Table = np.eye(table.shape[1], dtype=table.dtype)
        self._rest_gram: Table = np.zeros_like(gram)
        if self._rest_moves:
            self._rest_gram = gram - self._items.T @ self._items
        self._rest_pull: Table = self._alpha * self._rest_gram
        self._scores, self._signal = np.empty_like(self._targets), np.empty_like(self._targets)
        self._slopes = np.empty_like(self._targets) if sigmoid_output else self._scores
        self._basis: Table | None = None

    def fit(self, embedding: Table, *, valued: bool = True) -> Fit:
        """Against embeddings [k, d]; the signal is overwritten by the next call.

        Of linear scores the signal alone can be had.
        """
        assert valued or not self._sigmoid
        # BLAS is slow on a product of a few rows by a transposed table.
        rows = np.ascontiguousarray(self._turned(embedding).T)
        predicted, signal = np.matmul(self._items, rows, out=self._scores), self._signal
        if self._sigmoid:
            sigmoid_in_place(predicted)
            np.subtract(1, predicted, out=self._slopes)
            self._slopes *= predicted
        # Targets are zero where nothing is observed, and there the weight is α.
        if not valued:
            predicted *= self._weights
            predicted -= self._targets
            return Fit(predicted, predicted[:0, 0])
        np.multiply(predicted, self._weights, out=signal)
        signal -= self._targets
        predicted -= self._targets
        per_item: Table = np.vecdot(signal, predicted)
        rest = float(np.vdot(embedding @ self._rest_pull, embedding)) if self._rest_moves else 0.0
        if self._sigmoid:
            signal *= self._slopes
        return Fit(signal, per_item, rest)

    def embedding_gradient(self, fit: Fit, embedding: Table) -> Table:
        """Half the derivative of `fit.value` by the embeddings, [k, d]."""
        gradient: Table = fit.signal.T @ self._items
        if self._basis is not None:
            gradient = gradient @ self._basis.T
        if self._rest_moves:
            gradient += embedding @ self._rest_pull
        return gradient

    def embedding_curvature(self, width: int) -> tuple[Table, Table]:
        """Bounds of half the second derivative by the first `width` columns of an embedding.

        The part that all rows share [width, width], and what each row's own ratings add, [k].
        """
        items, basis = self._items, self._basis
        squares = np.vecdot(items, items)
        if width < items.shape[1]:
            last = items[:, -1] if basis is None else items @ basis[-1]
            squares -= last * last
        shared = self._rest_pull
        if self._alpha > 0:
            gram = items.T @ items
            shared = shared + self._alpha * (gram if basis is None else basis @ gram @ basis.T)
        own = (1 - self._alpha) * (squares @ self._observed)
        shared = shared[:width, :width]
        return self._bound * shared, self._bound * own

    def step(self, fit: Fit, embedding: Table) -> None:
        """Step every item by the inverse of a bound of its curvature.

        `fit` is the layer's latest, at `embedding`. The objective does not rise.
        """
        gram = embedding.T @ embedding
        # A basis may be old: the bounds are new at every step.
        basis = self._turn(eigenbasis(gram)) if self._basis is None else self._basis
        gram *= self._alpha
        shared = SharedCurvature(gram, basis)
        own = (1 - self._alpha) * (self._observed @ np.vecdot(embedding, embedding))
        gradient = fit.signal @ self._turned(embedding)
        if self._proximal > 0:
            gradient += self._proximal * (self._items - self._start)
        if self._sigmoid:
            self._items -= self._bent_step(gradient, own, shared, fit, embedding)
            return
        self._items -= shared.divide_turned(gradient, own, self._proximal)
        if self._rest_moves:
            self._move_rest(gram, shared)

    def scores(self, embedding: Table) -> Table:
        """Predicted ratings of every item for one embedding [d], [I]."""
        scores: Table = self._all @ (self._map.T @ embedding)
        scores[self._touched] = self._items @ self._turned(embedding)
        if self._sigmoid:
            sigmoid_in_place(scores)
        return scores

    def _turned(self, embedding: Table) -> Table:
        """Into the basis that touched rows are in."""
        return embedding if self._basis is None else embedding @ self._basis

    def _turn(self, basis: Table) -> Table:
        """Turn touched rows into a basis, and give it."""
        proximal = self._start is not self._items
        self._items = self._items @ basis
        self._start = self._start @ basis if proximal else self._items
        self._basis = basis
        return basis

    def _bent_step(
        self, gradient: Table, own: Table, shared: SharedCurvature, fit: Fit, embedding: Table
    ) -> Table:
        """Behind a sigmoid: a bold step, or a safe one where that would not do."""
        slope = self._slopes.max(axis=1, initial=0)
        steep = np.maximum(BOLD_SHARE * slope * slope, FLATTEST)[:, None]
        step = shared.divide_turned(gradient / steep, own, self._proximal / steep)
        worse = np.flatnonzero(~self._improved(step, fit, embedding))
        step[worse] = shared.divide_turned(
            gradient[worse] / self._bound, own[worse], self._proximal / self._bound
        )
        return step

    def _improved(self, change: Table, fit: Fit, embedding: Table) -> NDArray[np.bool_]:
        """Whether an item's part of the objective falls with its row of `change`, [T]."""
        before = fit.per_item + self._penalties()
        kept, self._items = self._items, self._items - change
        after = self.fit(embedding).per_item + self._penalties()
        self._items = kept
        improved: NDArray[np.bool_] = after <= before
        return improved

    def _penalties(self) -> Table | float:
        """The proximal term's part of every touched item, [T]."""
        if self._proximal == 0:
            return 0.0
        moved = self._items - self._start
        return np.asarray(self._proximal * np.vecdot(moved, moved))

    def _move_rest(self, gram: Table, shared: SharedCurvature) -> None:
        """Step the map, and with it α Σ q_i q_iᵀ over untouched items, [d, d]."""
        pull = gram @ self._map
        if self._proximal > 0:
            identity: Table = np.eye(len(self._map), dtype=self._map.dtype)
            pull += self._proximal * (self._map - identity)
        self._map -= shared.divide(pull.T, np.zeros_like(pull[0]), self._proximal).T
        pulled: Table = np.matmul(self._map @ self._rest_gram, self._map.T)
        pulled *= self._alpha
        self._rest_pull = pulled
