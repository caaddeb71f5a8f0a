"""EASE on a neighborhood: a model of items by items, solved anew for every request.

The closed form of Steck 2019 ("Embarrassingly Shallow Autoencoders for Sparse Data", section 3.1,
eq. 8) over k rows instead of all users, of which row 0's scores are wanted alone:

    min_B ‖X − X B‖² + λ ‖B‖²,  diag B = 0        X [k, T], ones where there is a rating
    P = (XᵀX + λ)⁻¹,  B = 1 − P / diag P           (columns divided)
    scores = x₀ B = x₀ − x₀ P / diag P

With fewer rows than items a table of rows by rows is enough: by Woodbury's identity
P = (1 − Xᵀ K X) / λ with K = (XXᵀ + λ)⁻¹, so that diag P = (1 − Σ_v X_vi (K X)_vi) / λ, and by the
push-through identity x₀ P is row 0 of K X.

It needs no parameters: what the rows say is all there is. Only what was rated counts, not how
highly.

Shapes: k neighbors (row 0 is the user itself), I items, T touched items.
"""

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.vicinal.entries import places, touched_items


def ease_scores(ratings: RatingMatrix, penalty: float) -> NDArray[np.float32]:
    """Row 0's scores of every item, [I]; 0 for items that no row rated.

    penalty  λ, above 0, in ratings

    >>> from common.ratings import RatingScale
    >>> two = RatingMatrix.from_triples(
    ...     [0, 1, 1], [0, 0, 1], [0, 0, 0], user_count=2, item_count=3, scale=RatingScale(1, 5, 1)
    ... )
    >>> [round(score, 4) for score in ease_scores(two, 1.0).tolist()]
    [0.0, 0.3333, 0.0]
    """
    scores = np.zeros(ratings.item_count, dtype=np.float32)
    touched = touched_items(ratings)
    rows = np.zeros((ratings.user_count, len(touched)))
    rows[ratings.users, places(ratings, touched)] = 1
    scores[touched] = (
        _by_rows(rows, penalty) if len(rows) < len(touched) else _by_items(rows, penalty)
    )
    return scores


def _by_rows(rows: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Through a table [k, k]."""
    solved = np.linalg.solve(rows @ rows.T + penalty * np.eye(len(rows)), rows)
    diagonal = (1 - (rows * solved).sum(axis=0)) / penalty
    scores: NDArray[np.float64] = rows[0] - solved[0] / diagonal
    return scores


def _by_items(rows: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Through a table [T, T]."""
    inverse = np.linalg.inv(rows.T @ rows + penalty * np.eye(rows.shape[1]))
    scores: NDArray[np.float64] = rows[0] - rows[0] @ inverse / inverse.diagonal()
    return scores
