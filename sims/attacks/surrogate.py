"""A surrogate that attackers can differentiate: ridge-regularized matrix factorization by ALS.

    min over x, y of  Σ_{(u,i)∈Ω} (r_ui − x_u·y_i)² + λ(Σ_u ‖x_u‖² + Σ_i ‖y_i‖²)

Ratings are fractions of the scale's maximum. A stored zero is a rating of 0, which relaxed
ratings may pass through; what is not stored is not rated.

Shapes: U users (fakes, if any, below the real ones), I items, N ratings, d width, n list length.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from common.ratings import RatingMatrix
from sims.attacks.options import check

Floats = NDArray[np.float64]
# scipy's sparse arrays; their type parameters differ between versions of the stubs.
Sparse = Any
# Users whose scores are held at once: a few tens of MiB, whatever U is.
USERS_AT_ONCE = 1024


@dataclass(frozen=True)
class Factors:
    """users [U, d], items [I, d], and the ridge λ that they were fitted with."""

    users: Floats
    items: Floats
    ridge: float


def sparse(ratings: RatingMatrix) -> Sparse:
    """Ratings as fractions of the maximum, [U, I]."""
    values = ratings.ratings.astype(np.float64)
    shape = (ratings.user_count, ratings.item_count)
    return csr_array((values, ratings.items, ratings.indptr), shape=shape)


def start(
    ratings: Sparse, *, width: int, ridge: float, sweeps: int, rng: np.random.Generator
) -> Factors:
    """Factors after `sweeps` sweeps from a random start. Raises InputError for bad options."""
    check("width", width, 1, 256)
    check("ridge", ridge, 1e-6)
    scale = 1 / np.sqrt(width)
    users, items = ratings.shape
    drawn = Factors(
        rng.normal(0, scale, (users, width)), rng.normal(0, scale, (items, width)), ridge
    )
    return refit(ratings, drawn, sweeps)


def refit(ratings: Sparse, factors: Factors, sweeps: int) -> Factors:
    """Alternate `sweeps` times: users given items, then items given users.

    Users beyond those of `factors` are new; the first half-sweep finds their factors.
    """
    users, items = factors.users, factors.items
    across = ratings.T.tocsr()
    for _ in range(sweeps):
        users = _solve(ratings, items, factors.ridge)
        items = _solve(across, users, factors.ridge)
    return Factors(users, items, factors.ridge)


def _solve(ratings: Sparse, factors: Floats, ridge: float) -> Floats:
    """The rows' factors given the columns', [rows, d]."""
    right = ratings @ factors
    solved: Floats = np.linalg.solve(grams(ratings, factors, ridge), right[:, :, None])[:, :, 0]
    return solved


def grams(ratings: Sparse, factors: Floats, ridge: float) -> Floats:
    """λI + Σ f fᵀ over the columns that each row rated, [rows, d, d]."""
    width = factors.shape[1]
    pattern = csr_array((np.ones(ratings.nnz), ratings.indices, ratings.indptr), ratings.shape)
    outer = (factors[:, :, None] * factors[:, None, :]).reshape(len(factors), width * width)
    summed: Floats = (pattern @ outer).reshape(-1, width, width)
    return summed + ridge * np.eye(width)


def inverse_grams(ratings: Sparse, factors: Floats, ridge: float) -> Floats:
    """The inverses of `grams`, [rows, d, d]."""
    return np.asarray(np.linalg.inv(grams(ratings, factors, ridge)), dtype=np.float64)


def residuals(ratings: Sparse, factors: Factors) -> Sparse:
    """r_ui − x_u·y_i where there is a rating, [U, I]."""
    rows = row_indices(ratings)
    predicted = pair_products(factors.users, factors.items, rows, ratings.indices)
    return csr_array((ratings.data - predicted, ratings.indices, ratings.indptr), ratings.shape)


def row_indices(ratings: Sparse) -> NDArray[np.int64]:
    """The row of every stored rating, [N]."""
    return np.repeat(np.arange(ratings.shape[0]), np.diff(ratings.indptr))


def pair_products(
    left: Floats, right: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Floats:
    """left[row] · right[column] for pairs of indices, [N]."""
    products: Floats = np.einsum("nd,nd->n", left[rows], right[columns])
    return products


def with_targets(
    items: NDArray[np.int64], values: Floats, targets: tuple[int, ...], item_count: int
) -> Sparse:
    """Rows of n items each, and of the t targets, as a sparse table, [rows, I].

    items [rows, n], values [rows, n + t]
    """
    count = len(items)
    columns = np.hstack([items, np.tile(np.array(targets, dtype=np.int64), (count, 1))])
    indptr = np.arange(count + 1) * columns.shape[1]
    return csr_array((values.ravel(), columns.ravel(), indptr), shape=(count, item_count))


def ascend(ratings: Floats, gradient: Floats, *, step: float, least: float = 0.0) -> Floats:
    """A step along the gradient, by `step` where it is largest in a row, back into [least, 1]."""
    largest = np.abs(gradient).max(axis=-1, keepdims=True, initial=1e-300)
    moved: Floats = np.clip(ratings + step * gradient / largest, least, 1)
    return moved


def sigmoid(values: Floats) -> Floats:
    """1/(1 + exp(−v)); by tanh, which cannot overflow."""
    return 0.5 * (1 + np.tanh(values / 2))


def top_lists(
    ratings: Sparse, factors: Factors, count: int, without: tuple[int, ...]
) -> NDArray[np.int64]:
    """The n = `count` unrated items that each user would be shown, `without` some, [U, n].

    In no order. A user with too few unrated items gets rated ones too; n is at most the number
    of items that are left.
    """
    users, items = ratings.shape
    count = min(count, items - len(without))
    lists = np.empty((users, count), dtype=np.int64)
    for first in range(0, users, USERS_AT_ONCE):
        some = slice(first, min(first + USERS_AT_ONCE, users))
        scores = factors.users[some] @ factors.items.T
        rated = ratings[some]
        # Finite, so that excluded items still rank below rated ones.
        scores[row_indices(rated), rated.indices] -= 1e6
        scores[:, list(without)] = -np.inf
        lists[some] = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return lists
