"""LightGCN: embeddings spread over the graph of who rated what, without weights or sigmoids.

    E⁽ˡ⁺¹⁾ = Â E⁽ˡ⁾,  Â_ui = Â_iu = 1/√(n_u n_i) where u rated i        (eq. 3 and 8)
    E = (E⁽⁰⁾ + … + E⁽ᴸ⁾) / (L + 1)                                      (eq. 4)

Only E⁽⁰⁾ is learned, by BPR on E. What is served are the rows of E.

Shapes: U users, I items, d embedding width.
"""

import numpy as np
import torch
from scipy.sparse import block_array, csr_array

from common.ratings import RatingMatrix
from server.training.bpr import Spread, compared
from server.training.descent import Factors, Progress
from server.training.ranking import LightGcn


def train_lightgcn(
    ratings: RatingMatrix,
    method: LightGcn,
    *,
    width: int,
    seed: int,
    progress: Progress | None = None,
) -> Factors:
    """The spread embeddings after all epochs; the same arguments give the same factors."""
    spread = spread_over(ratings, method.layers)
    return compared(ratings, method, width=width, seed=seed, spread=spread, progress=progress)


def spread_over(ratings: RatingMatrix, layers: int) -> Spread:
    """E of E⁽⁰⁾, both [U + I, d]: users first."""
    graph = _graph(ratings)

    def spread(rows: torch.Tensor) -> torch.Tensor:
        layer = rows.detach().numpy()
        total = layer.copy()
        for _ in range(layers):
            layer = graph @ layer
            total += layer
        return torch.from_numpy(total / np.float32(layers + 1))

    return spread


def _graph(ratings: RatingMatrix) -> csr_array:
    """Â, float32 [U + I, U + I]."""
    raters = ratings.item_counts()[ratings.items]
    rated = np.diff(ratings.indptr)[ratings.users]
    weights = (1 / np.sqrt(raters * rated)).astype(np.float32)
    shape = (ratings.user_count, ratings.item_count)
    table = csr_array((weights, ratings.items, ratings.indptr), shape=shape)
    return csr_array(block_array([[None, table], [table.T, None]], format="csr"))
