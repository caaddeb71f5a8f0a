"""GCoAttack (Wang et al. 2024, "Securing recommender system via cooperative training").

A game of an attack and a defense (arXiv 2401.12700). The defense, TCD, trains three models, and
where two of them agree on what a user would rate, that is a pseudo-rating for the third. The
attack, CoAttack, does not wait until a model is trained before it takes a gradient: fakes and
models take turns. GCoAttack lets CoAttack play against TCD, so that its fakes hold where somebody
defends:

    repeat:  pseudo-ratings for each model, from the two others;  refit the three, warm;
             one ascent step of the fakes on  −L = Σ_t Σ_u Σ_{i∈top N(u)} log σ(r̂_ut − r̂_ui),
             the mean over the three models

with `models=1` there is nobody to agree with, and it is CoAttack. The models are those that this
project's attackers differentiate (sims.attacks.surrogate), two predictions agree when they round
to the same rating, and the loss is MixInf's. The paper's abstract and summaries were at hand, its
code was not; models, loss and schedule are a reading.

Shapes: F fakes, C candidates of a fake, U users, I items, N list length.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from common.ratings import RatingMatrix, RatingScale
from sims.attacks.ascent import Respond, climb, on_fillers, with_fakes
from sims.attacks.budget import Budget
from sims.attacks.mixinf import loss_sensitivity
from sims.attacks.options import check, choose
from sims.attacks.surrogate import Factors, Floats, Sparse, pair_products, refit, sparse, start

FIRST_SWEEPS: Final = 10
WARM_SWEEPS: Final = 2
MOST_MODELS: Final = 3


def gcoattack_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    models: int = 3,
    width: int = 8,
    ridge: float = 1.0,
    iterations: int = 30,
    step: float = 0.05,
    candidates: float = 3.0,
    sweeps: int = 3,
    unlabeled: float = 1.0,
    list_length: int = 10,
    values: str = "optimized",
) -> RatingMatrix:
    """Fakes that rise against three models which correct each other.

    models        that are trained together: 3, or 1 for CoAttack without a defense
    width, ridge  of each model
    iterations    rounds of the game
    step          largest change of a rating in one, as a fraction of the maximum
    candidates    fillers at the start, as a multiple of those kept
    sweeps        of the implicit derivative
    unlabeled     pairs without a rating that are asked for pseudo-ratings in a round, as a
                  multiple of the ratings
    list_length   N, items that a target is compared with for each user
    values        filler ratings: `optimized`, or `normal` for N(μ_i, σ_i) on the fillers found
    """
    choose("models", str(models), ("1", "3"))
    check("sweeps", sweeps, 1)
    check("unlabeled", unlabeled, 0, 10)
    check("list_length", list_length, 1)
    real = sparse(ratings)
    users = real.shape[0]

    def begin() -> Respond:
        victims = [
            start(real, width=width, ridge=ridge, sweeps=FIRST_SWEEPS, rng=rng)
            for _ in range(models)
        ]

        def respond(chosen: NDArray[np.int64], relaxed: Floats) -> tuple[Floats, Floats]:
            nonlocal victims
            both = with_fakes(real, chosen, relaxed, targets)
            tables = [both] * models
            if models == MOST_MODELS:
                # A fake has factors as soon as it has been fitted once.
                seen = [refit(both, each, 1) for each in victims]
                count = int(unlabeled * real.nnz)
                tables = [
                    both + agreed(both, *others(seen, each), count, ratings.scale, rng)
                    for each in range(models)
                ]
            victims = [
                refit(table, each, WARM_SWEEPS) for table, each in zip(tables, victims, strict=True)
            ]
            gradients, worths = np.zeros(chosen.shape), np.zeros(chosen.shape)
            for table, each in zip(tables, victims, strict=True):
                found = loss_sensitivity(table, each, users, targets, list_length, sweeps)
                gradient, worth = on_fillers(found, chosen, relaxed, users)
                # The loss is to fall.
                gradients -= gradient / models
                worths -= worth / models
            return gradients, worths

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


def others(models: list[Factors], each: int) -> tuple[Factors, Factors]:
    """The two models beside one of three."""
    first, second = (model for place, model in enumerate(models) if place != each)
    return first, second


def agreed(
    ratings: Sparse,
    first: Factors,
    second: Factors,
    count: int,
    scale: RatingScale,
    rng: np.random.Generator,
) -> Sparse:
    """Pseudo-ratings: of `count` random pairs, the unrated ones that two models rate alike, [U, I].

    Alike is: rounded to the same rating of the grid, which is the pseudo-rating.
    """
    users, items = ratings.shape
    pairs = np.unique(rng.integers(users * items, size=count))
    rated = np.repeat(np.arange(users), np.diff(ratings.indptr)) * items + ratings.indices
    pairs = np.setdiff1d(pairs, rated, assume_unique=True)
    rows, columns = np.divmod(pairs, items)
    guesses = [
        scale.nearest_levels(pair_products(model.users, model.items, rows, columns) * scale.maximum)
        for model in (first, second)
    ]
    same = guesses[0] == guesses[1]
    values = scale.fractions[guesses[0][same]].astype(np.float64)
    return csr_array((values, (rows[same], columns[same])), shape=ratings.shape)
