"""Embeddings for users whom a model was not trained on, from their ratings and the items.

    p_u = argmin Σ_{i ∈ Ω_u} (p·q_i − r_ui)² + α Σ_{i ∉ Ω_u} (p·q_i)² + λ ‖p − p̄‖²

with the known users' mean p̄ (the fold-in of Hu, Koren and Volinsky 2008, "Collaborative Filtering
for Implicit Feedback Datasets", section 4, with a mean to fall back to). How the model was trained
is not known, so α and λ are those that come nearest to what it predicts for known users.

Shapes: U users, I items, d embedding width, B users at a time.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix

UNRATED_WEIGHTS: Final = (0.0, 0.01, 0.1, 0.4)
# λ as a share of the mean of a diagonal entry of QᵀQ, which has the items' scale.
RIDGES: Final = (1e-3, 1e-2, 1e-1)
# Known users on whom α and λ are tried.
TRIED: Final = 64


class FoldIn(NamedTuple):
    """How unknown users get embeddings: α, λ, and the mean p̄ [d]."""

    unrated_weight: float
    ridge: float
    mean: NDArray[np.float64]


def fold_in(
    users: NDArray[np.integer], ratings: RatingMatrix, items: NDArray[np.float32], how: FoldIn
) -> NDArray[np.float32]:
    """Embeddings of some users of `ratings`, [B, d]; one without ratings gets the mean.

    items  [I, d]; an item of zeros counts for nothing
    """
    table = items.astype(np.float64)
    alpha, width = how.unrated_weight, table.shape[1]
    everywhere = alpha * (table.T @ table) + how.ridge * np.eye(width)
    found = np.empty((len(users), width), dtype=np.float32)
    for row, user in zip(found, users.tolist(), strict=True):
        span = slice(ratings.indptr[user], ratings.indptr[user + 1])
        rated = table[ratings.items[span]]
        if not len(rated):
            row[:] = how.mean
            continue
        left = everywhere + (1 - alpha) * (rated.T @ rated)
        right = rated.T @ ratings.ratings[span] + how.ridge * how.mean
        row[:] = np.linalg.solve(left, right)
    return found


def chosen(
    ratings: RatingMatrix,
    known: NDArray[np.integer],
    users: NDArray[np.float32],
    items: NDArray[np.float32],
) -> FoldIn:
    """α and λ with which the embeddings of known users are found again most nearly.

    known  indices of users with embeddings; users [U, d], of everybody
    """
    mean = users[known].mean(axis=0, dtype=np.float64)
    spread = float(np.square(items, dtype=np.float64).sum() / items.shape[1])
    tried = known[np.linspace(0, len(known) - 1, min(TRIED, len(known))).astype(np.int64)]
    truth = users[tried] @ items.T
    ways = [FoldIn(alpha, share * spread, mean) for alpha in UNRATED_WEIGHTS for share in RIDGES]

    def error(how: FoldIn) -> float:
        found = fold_in(tried, ratings, items, how) @ items.T
        return float(np.square(found - truth, dtype=np.float64).sum())

    return min(ways, key=error)
