"""MixInf (Wu et al. 2023, "Influence-driven data poisoning for robust recommender systems").

Mixtures of two users (Usermix, sims.attacks.mixrand) are candidates; an influence function says,
without retraining, how much each would lower the attacker's loss

    L = −Σ_t Σ_u Σ_{i∈top10(u)} log σ(r̂_ut − r̂_ui),

and the best of `candidates` becomes a fake. With (s, t) = H⁻¹∇L of a surrogate
(sims.attacks.sensitivity), a candidate v with factor z and errors e_i = v_i − z·y_i moves the
loss by Σ_i t_i·z e_i to first order, and a little less when each item's own normal equation is
solved with z in it: a term is divided by 1 + z·A_i⁻¹z.

The surrogate is fitted to the real ratings and a first draft of the fakes, random mixtures. On the
real ratings alone a target has hardly any rating: the first fake then changes its prediction too
much for a first-order estimate. With other fakes present, as at the attack, the estimate holds.

Shapes: U real users, I items, d width, N list length.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from sims.attacks.budget import Budget, Profile, assemble
from sims.attacks.mixrand import usermix
from sims.attacks.options import check
from sims.attacks.sensitivity import Sensitivity, sensitivity
from sims.attacks.surrogate import (
    Factors,
    Floats,
    Sparse,
    inverse_grams,
    sigmoid,
    sparse,
    start,
    top_lists,
    with_targets,
)

FIRST_SWEEPS = 30


@dataclass(frozen=True)
class Threat:
    """What it takes to estimate any fake's influence.

    items    y_i, [I, d]
    answers  t_i: the response of the loss to an item's gradient, [I, d]
    inverses A_i⁻¹, [I, d, d]
    """

    items: Floats
    answers: Floats
    inverses: Floats
    ridge: float

    def influence(self, rated: NDArray[np.int64], values: Floats) -> float:
        """Estimated change of L when a user with these ratings (fractions) joins."""
        known = self.items[rated]
        width = known.shape[1]
        z = np.linalg.solve(known.T @ known + self.ridge * np.eye(width), known.T @ values)
        errors = values - known @ z
        spread = 1 + self.inverses[rated] @ z @ z
        return float(self.answers[rated] @ z @ (errors / spread))


def mixinf_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    width: int = 8,
    ridge: float = 0.1,
    candidates: int = 100,
    list_length: int = 10,
    sweeps: int = 20,
) -> RatingMatrix:
    """For each fake, the mixture of two users that lowers the attacker's loss most.

    width, ridge  of the surrogate
    candidates    mixtures drawn for each fake
    list_length   N, items that a target is compared with for each user
    sweeps        of the solution of Ht = ∇L
    """
    check("candidates", candidates, 1)
    check("list_length", list_length, 1)
    check("sweeps", sweeps, 1)
    room = budget.profile_size - len(targets)
    draft = [_candidate(ratings, targets, room, rng) for _ in range(budget.fakes)]
    both = sparse(ratings.stack(assemble(ratings, targets, draft)))
    factors = start(both, width=width, ridge=ridge, sweeps=FIRST_SWEEPS, rng=rng)
    threat = estimator(both, factors, ratings.user_count, targets, list_length, sweeps)
    highest = np.ones(len(targets))

    def change(candidate: Profile) -> float:
        items, values = candidate
        # As it would be injected: on the grid, targets at the maximum.
        graded = ratings.scale.fractions[ratings.scale.nearest_levels(values)]
        rated = np.concatenate([items, np.array(targets, dtype=np.int64)])
        return threat.influence(rated, np.concatenate([graded, highest]))

    fakes = []
    for _ in range(budget.fakes):
        drawn = [_candidate(ratings, targets, room, rng) for _ in range(candidates)]
        fakes.append(min(drawn, key=change))
    return assemble(ratings, targets, fakes)


def attack_loss(
    factors: Factors, lists: NDArray[np.int64], targets: tuple[int, ...]
) -> tuple[float, Sparse]:
    """L over the users of `lists` [U, N], and its gradient by predictions, sparse [U, I].

    Raises IndexError when there are fewer users in `factors` than lists.
    """
    users = len(lists)
    x = factors.users[:users]
    listed = np.einsum("ud,und->un", x, factors.items[lists])
    promoted = x @ factors.items[list(targets)].T
    behind = listed[:, :, None] - promoted[:, None, :]
    # −log σ(r̂_t − r̂_i) and its derivative σ(r̂_i − r̂_t), [U, N, t].
    loss = float(np.logaddexp(0, behind).sum())
    slope = sigmoid(behind)
    values = np.hstack([slope.sum(axis=2), -slope.sum(axis=1)])
    return loss, with_targets(lists, values, targets, len(factors.items))


def estimator(
    ratings: Sparse,
    factors: Factors,
    real_users: int,
    targets: tuple[int, ...],
    list_length: int,
    sweeps: int,
) -> Threat:
    """Prepare to estimate influences on a surrogate; the loss is that of the real users."""
    found = loss_sensitivity(ratings, factors, real_users, targets, list_length, sweeps)
    inverses = inverse_grams(ratings.T.tocsr(), factors.users, factors.ridge)
    return Threat(factors.items, found.items, inverses, factors.ridge)


def loss_sensitivity(
    ratings: Sparse,
    factors: Factors,
    real_users: int,
    targets: tuple[int, ...],
    list_length: int,
    sweeps: int,
) -> Sensitivity:
    """The derivatives of L, of the real users, by all ratings of a surrogate."""
    real = Factors(factors.users[:real_users], factors.items, factors.ridge)
    lists = top_lists(ratings[:real_users], real, list_length, without=targets)
    _, by_predictions = attack_loss(real, lists, targets)
    by_users, by_items = np.zeros_like(factors.users), by_predictions.T @ real.users
    by_users[:real_users] = by_predictions @ factors.items
    return sensitivity(ratings, factors, by_users, by_items, sweeps)


def _candidate(
    ratings: RatingMatrix, targets: tuple[int, ...], room: int, rng: np.random.Generator
) -> Profile:
    """Fillers of one mixture, random ones dropped where it is over budget."""
    mixed = usermix(ratings, rng=rng)
    mixed[list(targets)] = 0
    items = np.flatnonzero(mixed)
    if len(items) > room:
        items = rng.choice(items, room, replace=False)
    return items, mixed[items]
