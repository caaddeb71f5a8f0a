"""Projected gradient ascent on the fillers of fakes, whatever it is that they are to raise.

Each fake starts with more candidate fillers than it may keep and random ratings on them:

    repeat:  respond, a gradient at the present fakes;  drop fillers;  M̃ ← project(M̃ + step · ∇)

Over the first half of the iterations the fillers whose presence is worth least are dropped until
the rest is within the budget; over the second half the rest is tuned.

Shapes: F fakes, C candidates of a fake, U real users, I items.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import vstack

from common.ratings import RatingMatrix
from sims.attacks.average import item_statistics
from sims.attacks.budget import Budget, assemble, fillable
from sims.attacks.options import check, choose
from sims.attacks.sensitivity import Sensitivity
from sims.attacks.surrogate import (
    Factors,
    Floats,
    Sparse,
    ascend,
    pair_products,
    with_targets,
)

VALUES: Final = ("optimized", "normal")
# Items [F, C] and relaxed ratings [F, C] to the gradient by ratings and the worth, [F, C] each.
Respond = Callable[[NDArray[np.int64], Floats], tuple[Floats, Floats]]


def climb(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    begin: Callable[[], Respond],
    *,
    iterations: int,
    step: float,
    candidates: float,
    values: str,
    rng: np.random.Generator,
) -> RatingMatrix:
    """Profiles that raise what `begin()` gives the gradient of, once candidates are drawn.

    iterations  gradient steps
    step        largest change of a rating in one, as a fraction of the maximum
    candidates  fillers at the start, as a multiple of those kept
    values      filler ratings: `optimized`, or `normal` for N(μ_i, σ_i) on the fillers found

    Raises InputError for any of these out of its bounds, before `begin` is called.
    """
    check("iterations", iterations, 1)
    check("step", step, 0, 1)
    check("candidates", candidates, 1)
    choose("values", values, VALUES)
    scale = ratings.scale
    means, deviations = item_statistics(ratings)
    items = fillable(ratings, targets)
    room = min(budget.profile_size - len(targets), len(items))
    count = min(int(candidates * room), len(items))
    # Sorted rows make sorted indices, so that a gradient's order is a rating's.
    chosen = np.sort([rng.choice(items, count, replace=False) for _ in range(budget.fakes)])
    chosen = chosen.reshape(budget.fakes, count)
    drawn = rng.normal(means[chosen], deviations[chosen])
    relaxed = np.clip(drawn, scale.minimum, scale.maximum) / scale.maximum
    respond = begin()
    for left in schedule(count, room, iterations):
        gradient, worth = respond(chosen, relaxed)
        kept = np.sort(np.argsort(-worth, axis=1, kind="stable")[:, :left], axis=1)
        chosen, relaxed, gradient = (
            np.take_along_axis(table, kept, axis=1) for table in (chosen, relaxed, gradient)
        )
        relaxed = ascend(relaxed, gradient, step=step, least=scale.minimum / scale.maximum)
    final = relaxed * scale.maximum
    if values == "normal":
        final = rng.normal(means[chosen], deviations[chosen])
    return assemble(ratings, targets, zip(chosen, final, strict=True))


def schedule(count: int, room: int, iterations: int) -> list[int]:
    """How many fillers are left after each iteration: `room` from half of them on.

    >>> schedule(30, 10, 6)
    [24, 17, 10, 10, 10, 10]
    """
    dropping = (iterations + 1) // 2
    return [
        max(room, count - (count - room) * step // dropping) if step < dropping else room
        for step in range(1, iterations + 1)
    ]


def with_fakes(
    real: Sparse, chosen: NDArray[np.int64], relaxed: Floats, targets: tuple[int, ...]
) -> Sparse:
    """Real users, and below them fakes: candidates' ratings and targets at the maximum.

    real [U, I], chosen and relaxed [F, C]; gives [U + F, I]
    """
    filled = np.hstack([relaxed, np.ones((len(relaxed), len(targets)))])
    return vstack([real, with_targets(chosen, filled, targets, real.shape[1])], format="csr")


def on_fillers(
    found: Sensitivity, chosen: NDArray[np.int64], relaxed: Floats, real_users: int
) -> tuple[Floats, Floats]:
    """The derivatives by the candidates' ratings and by their presence, [F, C] each."""
    rows, columns = np.repeat(np.arange(len(chosen)) + real_users, chosen.shape[1]), chosen.ravel()
    gradient = found.of_values(rows, columns).reshape(chosen.shape)
    factors: Factors = found.factors
    predicted = pair_products(factors.users, factors.items, rows, columns)
    return gradient, gradient * (relaxed - predicted.reshape(chosen.shape))
