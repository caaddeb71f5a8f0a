"""PGA (Li et al. 2016, "Data poisoning attacks on factorization-based collaborative filtering").

Projected gradient ascent on the fakes' ratings (sims.attacks.ascent). The victim is a surrogate
fitted to real ratings R and fakes M̃, and refitted, warm, before each step; the utility is what it
predicts for the targets, R(M̃) = Σ_u Σ_t x_u·y_t over real users and targets. Li et al. hold users
fixed in the derivative; here it goes through all factors (sims.attacks.sensitivity), since a filler
changes a target's prediction only through the fake's own factor.

Shapes: F fakes, C candidates of a fake, U users, I items.
"""

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from sims.attacks.ascent import Respond, climb, on_fillers, with_fakes
from sims.attacks.budget import Budget
from sims.attacks.options import check
from sims.attacks.sensitivity import sensitivity
from sims.attacks.surrogate import Factors, Floats, refit, sparse, start

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
    check("sweeps", sweeps, 1)
    real = sparse(ratings)

    def begin() -> Respond:
        factors = start(real, width=width, ridge=ridge, sweeps=FIRST_SWEEPS, rng=rng)

        def respond(chosen: NDArray[np.int64], relaxed: Floats) -> tuple[Floats, Floats]:
            nonlocal factors
            both = with_fakes(real, chosen, relaxed, targets)
            factors = refit(both, factors, WARM_SWEEPS)
            by_users, by_items = utility_gradients(factors, real.shape[0], targets)
            found = sensitivity(both, factors, by_users, by_items, sweeps)
            return on_fillers(found, chosen, relaxed, real.shape[0])

        return respond

    return climb(
        ratings,
        targets,
        budget,
        begin,
        iterations=iterations,
        step=step,
        candidates=candidates,
        values=values,
        rng=rng,
    )


def utility_gradients(
    factors: Factors, real_users: int, targets: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Of Σ_{real u} Σ_t x_u·y_t, by users [U, d] and by items [I, d]."""
    by_users, by_items = np.zeros_like(factors.users), np.zeros_like(factors.items)
    by_users[:real_users] = factors.items[list(targets)].sum(axis=0)
    by_items[list(targets)] = factors.users[:real_users].sum(axis=0)
    return by_users, by_items
