"""Robust matrix factorization (Bampis et al. 2017): R ≈ UUᵀR, after mean and biases or not.

What is not rated is imputed by what U predicts, Y = X̂ + P_Ω(R − X̂), and U descends on

    f(U) = ‖Y − U Uᵀ Y‖²

by multiplicative updates. Y is a product of low rank plus a sparse matrix, and every product
with it is associated so that neither U × U nor U × I numbers are held.

As a version of mf the model is, exactly, r̂_ui = U_u · z_i with Z = UᵀY, and with biases

    r̂_ui = μ + b_u + b_i + U_u · z_i = (U_u, b_u, 1) · (z_i, 1, μ + b_i).

Shapes: U users, I items, N ratings, r rank.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from common.ratings import RatingMatrix
from common.threads import limit_threads
from server.training.descent import Descent, Factors, Progress
from server.training.methods import Rmf

Table = NDArray[np.float64]

# Of the exponent ½, before an update that would raise f is given up.
MAX_HALVINGS: Final = 20
_TINY: Final = 1e-12


@dataclass(frozen=True)
class Biases:
    """μ, b_u [U] and b_i [I]."""

    mean: float
    users: Table
    items: Table


@dataclass(frozen=True)
class Imputed:
    """Y = left @ right + rest: [U, r] [r, I] and sparse [U, I]."""

    left: Table
    right: Table
    rest: sparse.csr_array

    def times(self, columns: Table) -> Table:
        """Y C for C [I, c], [U, c]."""
        product: Table = self.left @ (self.right @ columns) + self.rest @ columns
        return product

    def transposed_times(self, columns: Table) -> Table:
        """Yᵀ C for C [U, c], [I, c]."""
        product: Table = self.right.T @ (self.left.T @ columns) + self.rest.T @ columns
        return product

    def square(self) -> float:
        """‖Y‖²."""
        low = np.vdot(self.left.T @ self.left, self.right @ self.right.T)
        cross = np.vdot(self.rest @ self.right.T, self.left)
        return float(low + 2 * cross + np.vdot(self.rest.data, self.rest.data))


def train_rmf(
    ratings: RatingMatrix, method: Rmf, descent: Descent, progress: Progress | None
) -> Factors:
    """Factors of width r, with biases r + 2, that predict as RMF does.

    Of `descent` only the seed counts.
    """
    limit_threads()  # a product's last bits depend on their number
    biases = fit_biases(ratings, method.damping) if method.biases else None
    residual = _residuals(ratings, biases)
    rng = np.random.default_rng(descent.seed)
    # Columns of length near 1, as those of a projection have.
    users = rng.random((ratings.user_count, method.rank)) / np.sqrt(ratings.user_count / 3)
    imputed = Imputed(np.zeros_like(users), np.zeros((method.rank, ratings.item_count)), residual)
    for done in range(method.rounds):
        for _ in range(method.updates):
            users = multiplied(users, imputed)
        scores = imputed.transposed_times(users).T
        if progress is not None:
            progress(done + 1, method.rounds)
        if done + 1 < method.rounds:
            imputed = impute(users, scores, ratings, residual)
    return as_factors(users, scores, biases)


def fit_biases(ratings: RatingMatrix, damping: float) -> Biases:
    """Means of what is left over, first by item, then by user, pulled towards 0."""
    values = ratings.ratings.astype(np.float64)
    mean = float(values.mean()) if len(values) else 0.0

    def damped(rows: NDArray[np.int64], left: Table, count: int) -> Table:
        numbers = np.bincount(rows, minlength=count) + damping
        sums = np.bincount(rows, weights=left, minlength=count)
        means: Table = np.divide(sums, numbers, out=np.zeros(count), where=numbers > 0)
        return means

    columns = ratings.items.astype(np.int64)
    items = damped(columns, values - mean, ratings.item_count)
    users = damped(ratings.users, values - mean - items[columns], ratings.user_count)
    return Biases(mean, users, items)


def impute(
    users: Table, scores: Table, ratings: RatingMatrix, residual: sparse.csr_array
) -> Imputed:
    """Y from U [U, r], Z [r, I] and what is to be predicted on Ω."""
    predicted = np.einsum("nr,nr->n", users[ratings.users], scores.T[ratings.items])
    return Imputed(users, scores, _on_observed(ratings, residual.data - predicted))


def multiplied(users: Table, imputed: Imputed) -> Table:
    """U ≥ 0 after one update; f does not rise.

    ∂f/∂U = 2 (A − B), A = UUᵀYYᵀU + YYᵀUUᵀU, B = 2 YYᵀU. Y has both signs, so A and B are
    split into positive parts and U is multiplied by a root of their ratio: it stays positive,
    it stays where the gradient is 0, and for a small exponent it descends.
    """
    scores = imputed.transposed_times(users)  # YᵀU, [I, r]
    spread = imputed.times(scores)  # Y YᵀU, [U, r]
    gram = users.T @ users
    grows = 2 * spread
    shrinks = users @ (scores.T @ scores) + spread @ gram
    ratio = (_positive(grows) + _positive(-shrinks) + _TINY) / (
        _positive(shrinks) + _positive(-grows) + _TINY
    )
    before = objective(users, imputed)
    exponent = 0.5
    for _ in range(MAX_HALVINGS):
        moved: Table = users * ratio**exponent
        if objective(moved, imputed) <= before:
            return moved
        exponent /= 2
    return users


def objective(users: Table, imputed: Imputed) -> float:
    """f(U) from Gram matrices: ‖Y‖² − 2 ‖UᵀY‖² + ⟨UᵀU, UᵀY YᵀU⟩."""
    scores = imputed.transposed_times(users)
    products = scores.T @ scores
    return (
        imputed.square() - 2 * float(np.trace(products)) + float(np.vdot(users.T @ users, products))
    )


def as_factors(users: Table, scores: Table, biases: Biases | None) -> Factors:
    """P and Q with P Qᵀ = U Z, or μ + b_u + b_i + U Z; U [U, r], Z [r, I].

    A column of P times c and of Q over c predict the same. c makes their mean squares equal,
    as a trained mf has it: neighbors are then near in U's row above all, and a fine-tune's step
    suits both sides.
    """
    left, right = users, scores.T
    if biases is not None:
        left = np.column_stack([left, biases.users, np.ones(len(left))])
        right = np.column_stack([right, np.ones(len(right)), biases.mean + biases.items])
    sizes = [np.sqrt((side**2).mean(axis=0)) for side in (left, right)]
    # A column that is zero on one side predicts nothing, however it is scaled.
    flat = np.minimum(*sizes) < _TINY
    scale = np.sqrt(np.where(flat, 1, sizes[1]) / np.where(flat, 1, sizes[0]))
    return Factors(
        torch.from_numpy((left * scale).astype(np.float32)),
        torch.from_numpy((right / scale).astype(np.float32)),
    )


def _residuals(ratings: RatingMatrix, biases: Biases | None) -> sparse.csr_array:
    values = ratings.ratings.astype(np.float64)
    if biases is not None:
        values -= biases.mean + biases.users[ratings.users] + biases.items[ratings.items]
    return _on_observed(ratings, values)


def _on_observed(ratings: RatingMatrix, values: Table) -> sparse.csr_array:
    shape = (ratings.user_count, ratings.item_count)
    return sparse.csr_array((values, ratings.items, ratings.indptr), shape=shape)


def _positive(table: Table) -> Table:
    return np.maximum(table, 0)
