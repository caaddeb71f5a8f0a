"""A client's part in the training of a federated mf, in numpy.

    L_u = Σ_{i rated} (p · q_i − r_i)² + α Σ_{i drawn, not rated} (p · q_i)²

is the vicinal objective of one user, with what is not rated sampled anew in every round. A step
goes down the slope of both sides at the same point:

    p ← p − η_u ∂L/∂p ÷ T,   q_i ← q_i − η ∂L/∂q_i

where η_u ÷ T is at most 1 ÷ 2 Σ w_i ‖q_i‖², and η at most 1 ÷ 2 ‖p‖²: beyond these a step of one
side alone could lead up.

The user's ratings and p stay here. The rows of rated and of drawn items are sent, so that which
rows are sent does not tell what was rated.

Shapes: I items, n ratings of the user, T items looked at, d embedding width.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from common.federated import LocalTraining, Table, Update, clipped


@final
@dataclass(frozen=True)
class OwnRatings:
    """Of one user: items [n], ascending, and ratings as fractions of the maximum, [n]."""

    items: NDArray[np.int64]
    ratings: NDArray[np.float32]


def local_update(
    table: Table,
    vector: Table,
    own: OwnRatings,
    local: LocalTraining,
    *,
    rng: np.random.Generator,
) -> tuple[Table, Update]:
    """The user's vector after the local steps, [d], and the change of the items' rows.

    table   the server's, [I, d]
    vector  the user's from the round before, [d]
    """
    items, wanted, weights = _looked_at(own, len(table), local, rng)
    start = table[items]
    rows = start.copy()
    for _ in range(local.steps):
        slopes = 2 * weights * (rows @ vector - wanted)
        rate = _capped(local.rate, float(vector @ vector))
        moved = _moved(vector, rows, slopes, weights, local)
        rows -= rate * np.outer(slopes, vector)
        vector = moved
    return vector, Update(items, clipped(rows - start, local.row_norm))


def own_vector(
    table: Table,
    vector: Table,
    own: OwnRatings,
    local: LocalTraining,
    *,
    steps: int,
    rng: np.random.Generator,
) -> Table:
    """The user's vector after steps of its own with the table as it is: after the last round."""
    items, wanted, weights = _looked_at(own, len(table), local, rng)
    rows = table[items]
    for _ in range(steps):
        slopes = 2 * weights * (rows @ vector - wanted)
        vector = _moved(vector, rows, slopes, weights, local)
    return vector


def _moved(
    vector: Table, rows: Table, slopes: Table, weights: Table, local: LocalTraining
) -> Table:
    """The user's vector after a step."""
    curvature = float(weights @ np.square(rows).sum(1))
    rate = _capped(local.user_rate / max(len(rows), 1), curvature)
    return vector - rate * (slopes @ rows)


def _capped(rate: float, curvature: float) -> np.float32:
    """A rate of at most 1 ÷ 2 times the curvature."""
    return np.float32(min(rate, 0.5 / max(curvature, 1e-12)))


def _looked_at(
    own: OwnRatings, item_count: int, local: LocalTraining, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Items [T], ascending, what they are to be predicted as, and their weights in L, [T].

    Of items drawn twice, or rated, none is left: fewer are looked at than were drawn.
    """
    drawn = rng.integers(0, item_count, round(local.unrated * len(own.items)))
    drawn = np.setdiff1d(drawn, own.items)
    items = np.concatenate([own.items, drawn]).astype(np.int64)
    wanted = np.concatenate([own.ratings, np.zeros(len(drawn), dtype=np.float32)])
    weights = np.full(len(items), local.unrated_weight, dtype=np.float32)
    weights[: len(own.items)] = 1
    order = np.argsort(items)
    return items[order], wanted[order], weights[order]
