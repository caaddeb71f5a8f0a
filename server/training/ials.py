"""Alternating least squares for implicit feedback: by the library implicit, and of many ratings by
a solver of the same equations that takes a fraction of its time.

    L = Σ_{u,i} c_ui (r̂_ui − [(u, i) ∈ Ω])² + λ (‖P‖² + ‖Q‖²),  c_ui = 1 + α r_ui on Ω, else 1

Each user's row is solved for given all items, then each item's given all users, from seeded small
random numbers; the sum over all pairs comes from PᵀP or QᵀQ.

Shapes: U users, I items, d embedding width.
"""

from typing import Any

import torch
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

from common.ratings import RatingMatrix
from server.training.alternating import MANY_RATINGS, alternated
from server.training.descent import Factors, Progress
from server.training.ranking import Ials


def train_ials(
    ratings: RatingMatrix, method: Ials, *, width: int, seed: int, progress: Progress | None = None
) -> Factors:
    """The factors after all rounds; the same arguments give the same factors."""
    confidence = 1 + method.confidence * ratings.ratings
    shape = (ratings.user_count, ratings.item_count)
    # The library takes what is stored for c, times an α of its own; it wants arrays of its own.
    table = csr_matrix((confidence, ratings.items, ratings.indptr), shape=shape, copy=True)
    if len(ratings) >= MANY_RATINGS:
        users, items = alternated(
            table,
            width=width,
            regularization=method.regularization,
            rounds=method.rounds,
            seed=seed % 2**32,
            told=lambda done: None if progress is None else progress(done, method.rounds),
        )
        return Factors(torch.from_numpy(users), torch.from_numpy(items))
    model = AlternatingLeastSquares(
        factors=width,
        regularization=method.regularization,
        alpha=1.0,
        iterations=method.rounds,
        use_cg=False,
        num_threads=1,
        random_state=seed % 2**32,
    )

    def told(done: int, *_: Any) -> None:
        if progress is not None:
            progress(done + 1, method.rounds)

    model.fit(table, show_progress=False, callback=told)
    return Factors(torch.from_numpy(model.user_factors), torch.from_numpy(model.item_factors))
