"""Vicinal fine-tuning of matrix factorization, r̂_vi = p_v · q_i, gradients by hand.

Only items that a neighbor rated ("touched") are held as rows. All other items feel the same
pull, α p_v p_vᵀ summed over the neighborhood, so they move by one shared linear map M:
q_i = M q_i⁰. Their share of the objective and of p_v's gradient needs only their Gram matrix.
A step costs O(k·T·d + d³), whatever the number of items.

Shapes: k neighbors, T touched items, I items, d embedding width.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.settings import VicinalSettings

Table = NDArray[np.float32]

# Guards the division where a gradient has always been zero.
ADAGRAD_EPSILON: Final = np.float32(1e-10)

# Of the mean eigenvalue; far above rounding, far below what a bound would notice.
RAMP: Final = 0.01

# A run of steps that made the objective worse is retried with half the learning rate, this often.
MAX_HALVINGS = 30


@final
class _Copy:
    """The fine-tuned copy: neighbors' vectors, touched items' vectors, the others' map."""

    def __init__(
        self,
        users: Table,
        items: Table,
        gram: Table,
        ratings: RatingMatrix,
        alpha: float,
        proximal: float,
        *,
        all_items: bool,
    ) -> None:
        count, width = len(items), users.shape[1]
        self.touched = np.arange(count) if all_items else np.unique(ratings.items)
        column = np.empty(count, dtype=np.int64)
        column[self.touched] = np.arange(len(self.touched))
        cells = (ratings.users, column[ratings.items])
        self.targets = np.zeros((len(users), len(self.touched)), dtype=users.dtype)
        self.targets[cells] = ratings.ratings
        self.weights = np.full_like(self.targets, alpha)
        self.weights[cells] = 1.0

        self.alpha = users.dtype.type(alpha)
        self.observed = max(len(ratings), 1)
        # The common factor 1/|Ω_N| is left out below, so λ is multiplied by |Ω_N|.
        self.proximal = users.dtype.type(proximal * self.observed)
        self.users_start, self.items_start = users, items[self.touched]
        self.users, self.items = users.copy(), self.items_start.copy()
        self.map = np.eye(width, dtype=users.dtype)
        self.rest_gram = gram - self.items_start.T @ self.items_start
        self._residual = np.empty_like(self.targets)

    def residual(self) -> Table:
        """Weighted residual W ∘ (P Qᵀ − R), [k, T], in a buffer that the next call reuses."""
        residual = np.matmul(self.users, self.items.T, out=self._residual)
        residual *= self.weights
        residual -= self.targets  # targets are zero where nothing is observed
        return residual

    def rest_pull(self) -> Table:
        """α Σ_{untouched i} q_i q_iᵀ with the items where they are now, [d, d]."""
        return self.alpha * (self.map @ self.rest_gram @ self.map.T)

    def objective(self) -> float:
        """|Ω_N| · L_N; NaN or infinite when the copy is."""
        predicted = (self.users @ self.items.T).astype(np.float64)
        gap = predicted - self.targets
        moved = self.map - np.eye(len(self.map), dtype=self.map.dtype)
        distance = (
            ((self.users - self.users_start).astype(np.float64) ** 2).sum()
            + ((self.items - self.items_start).astype(np.float64) ** 2).sum()
            + np.vdot(moved @ self.rest_gram, moved)
        )
        pull = np.vdot(self.users @ self.rest_pull(), self.users)
        return float((self.weights * gap * gap).sum() + pull + self.proximal * distance)

    def scores(self, all_items: Table) -> Table:
        """Row 0's score of every item, [I]."""
        user = self.users[0]
        scores: Table = all_items @ (self.map.T @ user)
        scores[self.touched] = self.items @ user
        return scores


def _curvature_steps(copy: _Copy, basis: Table, steps: int) -> None:
    """Alternate users and items; each row's step is divided by a bound of its own curvature.

    A row's Hessian is one part that all rows share, α times the Gram matrix of the other
    side, plus a part of its own observed ratings, which its trace bounds. In a basis where the
    shared part is nearly diagonal, Gershgorin's bound makes it so: every row is stepped by the
    inverse of its own bound, and no step raises the objective, for any k, α and data. There is
    no learning rate, and 1/|Ω_N| cancels.

    Users step in the eigenbasis of the model's items (`basis`), items in that of the users
    after their first step; a basis may be old, the bounds are new at every step. Rows
    without a rating have no part of their own: the mean curvature stands in for it, or one
    step would take all of them to 0, all alike.
    """
    one = copy.users.dtype.type(1)
    observed = (copy.weights == one).astype(copy.users.dtype)
    own, proximal = one - copy.alpha, copy.proximal
    identity = np.eye(len(copy.map), dtype=copy.map.dtype)
    user_basis: Table | None = None
    for _ in range(steps):
        rest = copy.rest_pull()
        gradient = copy.residual() @ copy.items + copy.users @ rest
        gradient += proximal * (copy.users - copy.users_start)
        shared = _Shared(rest + copy.alpha * (copy.items.T @ copy.items), basis)
        bound = own * (observed @ np.einsum("td,td->t", copy.items, copy.items))
        copy.users -= shared.divide(gradient, bound, proximal)

        gradient = copy.residual().T @ copy.users
        gradient += proximal * (copy.items - copy.items_start)
        gram = copy.users.T @ copy.users
        user_basis = eigenbasis(gram) if user_basis is None else user_basis
        gram *= copy.alpha
        shared = _Shared(gram, user_basis)
        bound = own * (np.einsum("kd,kd->k", copy.users, copy.users) @ observed)
        copy.items -= shared.divide(gradient, bound, proximal)

        pull = gram @ copy.map + proximal * (copy.map - identity)
        copy.map -= shared.divide(pull.T, np.zeros_like(pull[0]), proximal).T


def eigenbasis(gram: Table) -> Table:
    """Orthonormal vectors that nearly diagonalize a Gram matrix, in columns, [d, d].

    Where eigenvalues are equal, as 0 is with fewer rows than dimensions, eigenvectors are
    whatever rounding makes of them; a small ramp on the diagonal lets every machine choose alike.
    """
    ramp = np.linspace(0, RAMP * np.trace(gram) / len(gram), len(gram), dtype=gram.dtype)
    return np.linalg.eigh(gram + np.diag(ramp))[1]


@final
class _Shared:
    """The part S [d, d] of a Hessian that all rows share, bounded by a diagonal in a basis."""

    def __init__(self, matrix: Table, basis: Table) -> None:
        self._basis = basis
        # Gershgorin: a symmetric matrix is at most the diagonal of its absolute row sums.
        self._bounds = np.abs(basis.T @ matrix @ basis).sum(axis=1)
        self._mean = np.trace(matrix) / len(matrix)

    def divide(self, gradient: Table, bound: Table, proximal: np.floating) -> Table:
        """Rows g_r (S + (bound_r + proximal)·1)⁻¹, with S bounded, [R, d]; 0 where all is flat.

        A bound of 0 says that the row has no rating: it becomes S's mean eigenvalue.
        """
        curvature = np.where(bound > 0, bound, self._mean)[:, None] + proximal + self._bounds
        rotated = gradient @ self._basis
        rotated /= np.where(curvature > 0, curvature, 1)
        divided: Table = (rotated @ self._basis.T).astype(gradient.dtype, copy=False)
        return divided


def _adagrad_steps(copy: _Copy, steps: int, learning_rate: float) -> None:
    """Full-batch Adagrad on L_N from a fresh state (sums of squares 0), all rows at once."""
    kind = copy.users.dtype.type
    factor, rate = kind(2.0 / copy.observed), kind(learning_rate)
    user_squares, item_squares = np.zeros_like(copy.users), np.zeros_like(copy.items)
    for _ in range(steps):
        residual = copy.residual()
        user_gradient = factor * (
            residual @ copy.items + copy.proximal * (copy.users - copy.users_start)
        )
        item_gradient = factor * (
            residual.T @ copy.users + copy.proximal * (copy.items - copy.items_start)
        )
        user_squares += user_gradient * user_gradient
        item_squares += item_gradient * item_gradient
        copy.users -= rate * user_gradient / (np.sqrt(user_squares) + ADAGRAD_EPSILON)
        copy.items -= rate * item_gradient / (np.sqrt(item_squares) + ADAGRAD_EPSILON)


def fine_tune_mf(
    users: Table,
    items: Table,
    gram: Table,
    basis: Table,
    ratings: RatingMatrix,
    settings: VicinalSettings,
) -> Table:
    """Scores of all items for row 0 after `settings.steps` steps on the neighborhood, [I].

    users [k, d] and items [I, d] are the model's embeddings, gram = itemsᵀ items and basis its
    eigenbasis, ratings the k rows. The result is finite and its objective not above the
    model's own: a run of adagrad that ends higher is repeated with half the learning rate.
    """

    def fresh() -> _Copy:
        # Adagrad scales coordinates, so untouched items would not share one map.
        dense = settings.step_rule == "adagrad" and settings.unrated_weight > 0
        return _Copy(
            users,
            items,
            gram,
            ratings,
            settings.unrated_weight,
            settings.proximal_weight,
            all_items=dense,
        )

    copy = fresh()
    if settings.step_rule == "curvature":
        _curvature_steps(copy, basis, settings.steps)
        return copy.scores(items)
    start, learning_rate = copy.objective(), settings.learning_rate
    for _ in range(MAX_HALVINGS):
        with np.errstate(over="ignore", invalid="ignore"):
            _adagrad_steps(copy, settings.steps, learning_rate)
            if copy.objective() <= start:
                return copy.scores(items)
        copy, learning_rate = fresh(), learning_rate / 2
    return copy.scores(items)
