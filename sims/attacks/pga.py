"""PGA (Li et al. 2016, "Data poisoning attacks on factorization-based collaborative filtering").

Projected gradient ascent on the fakes' ratings. The victim is a surrogate fitted to real ratings
R and fakes M̃; the utility is what it predicts for the targets, R(M̃) = Σ_u Σ_t x_u·y_t over real
users and targets. Each fake starts with more candidate fillers than it may keep and random
ratings on them:

    repeat:  refit, warm;  drop fillers;  M̃ ← project(M̃ + step · ∇R / max |∇R|)

Over the first half of the iterations the fillers whose presence raises the utility least are
dropped until the rest is within the budget; over the second half the rest is tuned. Li et al.
hold users fixed in the derivative; here it goes through all factors (sims.attacks.sensitivity),
since a filler changes a target's prediction only through the fake's own factor.

Shapes: F fakes, C candidates of a fake, U users, I items.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import vstack

from common.ratings import RatingMatrix
from sims.attacks.average import item_statistics
from sims.attacks.budget import Budget, assemble, fillable
from sims.attacks.options import check, choose
from sims.attacks.sensitivity import Sensitivity, sensitivity
from sims.attacks.surrogate import (
    Factors,
    Floats,
    Sparse,
    ascend,
    pair_products,
    refit,
    sparse,
    start,
    with_targets,
)

FIRST_SWEEPS = 10
WARM_SWEEPS = 2


def pga_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    width: int = 8,
    ridge: float = 1.0,
    iterations: int = 40,
    step: float = 0.05,
    candidates: float = 3.0,
    sweeps: int = 3,
    values: str = "optimized",
) -> RatingMatrix:
    """Fillers and ratings by projected gradient ascent on what the surrogate predicts.

    width, ridge  of the surrogate; with little ridge it has many minima, and what raises the
                  utility in the one at hand need not in the one that the victim reaches
    iterations    gradient steps
    step          largest change of a rating in one, as a fraction of the maximum
    candidates    fillers at the start, as a multiple of those kept
    sweeps        of the implicit derivative
    values        filler ratings: `optimized`, or `normal` for N(μ_i, σ_i) on the fillers found
    """
    check("iterations", iterations, 1)
    check("step", step, 0, 1)
    check("candidates", candidates, 1)
    check("sweeps", sweeps, 1)
    choose("values", values, ("optimized", "normal"))
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

    real = sparse(ratings)
    factors = start(real, width=width, ridge=ridge, sweeps=FIRST_SWEEPS, rng=rng)
    for left in _schedule(count, room, iterations):
        factors, found = _respond(real, chosen, relaxed, targets, factors, sweeps)
        gradient = _on_fillers(found, chosen, real.shape[0])
        worth = gradient * _errors(factors, chosen, relaxed, real.shape[0])
        kept = np.sort(np.argsort(-worth, axis=1, kind="stable")[:, :left], axis=1)
        chosen, relaxed, gradient = (
            np.take_along_axis(table, kept, axis=1) for table in (chosen, relaxed, gradient)
        )
        relaxed = ascend(relaxed, gradient, step=step, least=scale.minimum / scale.maximum)
    final = relaxed * scale.maximum
    if values == "normal":
        final = rng.normal(means[chosen], deviations[chosen])
    return assemble(ratings, targets, zip(chosen, final, strict=True))


def utility_gradients(
    factors: Factors, real_users: int, targets: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Of Σ_{real u} Σ_t x_u·y_t, by users [U, d] and by items [I, d]."""
    by_users, by_items = np.zeros_like(factors.users), np.zeros_like(factors.items)
    by_users[:real_users] = factors.items[list(targets)].sum(axis=0)
    by_items[list(targets)] = factors.users[:real_users].sum(axis=0)
    return by_users, by_items


def _schedule(count: int, room: int, iterations: int) -> list[int]:
    """How many fillers are left after each iteration: `room` from half of them on.

    >>> _schedule(30, 10, 6)
    [24, 17, 10, 10, 10, 10]
    """
    dropping = (iterations + 1) // 2
    return [
        max(room, count - (count - room) * step // dropping) if step < dropping else room
        for step in range(1, iterations + 1)
    ]


def _respond(
    real: Sparse,
    chosen: NDArray[np.int64],
    relaxed: Floats,
    targets: tuple[int, ...],
    factors: Factors,
    sweeps: int,
) -> tuple[Factors, Sensitivity]:
    """Refit to the present fakes, and the derivatives of the utility."""
    # Candidates' ratings and the targets' maximum, [F, I].
    values = np.hstack([relaxed, np.ones((len(relaxed), len(targets)))])
    fakes = with_targets(chosen, values, targets, real.shape[1])
    both = vstack([real, fakes], format="csr")
    factors = refit(both, factors, WARM_SWEEPS)
    by_users, by_items = utility_gradients(factors, real.shape[0], targets)
    return factors, sensitivity(both, factors, by_users, by_items, sweeps)


def _on_fillers(found: Sensitivity, chosen: NDArray[np.int64], real_users: int) -> Floats:
    """∂R/∂M̃ on the candidates, [F, C]."""
    rows = np.repeat(np.arange(len(chosen)) + real_users, chosen.shape[1])
    return found.of_values(rows, chosen.ravel()).reshape(chosen.shape)


def _errors(
    factors: Factors, chosen: NDArray[np.int64], relaxed: Floats, real_users: int
) -> Floats:
    """Errors of the surrogate on each candidate's rating, [F, C]."""
    rows = np.repeat(np.arange(len(chosen)) + real_users, chosen.shape[1])
    predicted = pair_products(factors.users, factors.items, rows, chosen.ravel())
    return relaxed - predicted.reshape(chosen.shape)
