"""UNAttack (Chen et al. 2021, "Data poisoning attacks on neighborhood-based recommender systems").

Against user-based collaborative filtering, where a user is shown what the most similar users
praise. Fakes are made one after another. With w the relaxed ratings of a fake and θ_u the
similarity of user u's k-th neighbor, among real users and the fakes made so far, it

    minimizes over w ∈ [0, 1]^I    Σ_u σ((θ_u − cos(r_u, w)) / b) + η‖w‖₁

by projected gradient, targets held at the maximum: as many users as possible are to have the fake
among their neighbors. The largest w become fillers. The similarity is the cosine of rating rows,
which the paper finds easiest to attack, as it does Euclidean distance the hardest; fillers'
ratings follow N(μ_i, σ_i), as in attacks of its kind. The paper's abstract and our notes of it were
at hand, its code was not.

Shapes: U users, I items, F fakes, k neighbors.
"""

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from sims.attacks.average import item_statistics
from sims.attacks.budget import Budget, assemble, fillable
from sims.attacks.options import check
from sims.attacks.surrogate import USERS_AT_ONCE, Floats, Sparse, ascend, sigmoid, sparse


def unattack_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    k: int = 20,
    softness: float = 0.05,
    sparsity: float = 0.01,
    iterations: int = 30,
    step: float = 0.1,
) -> RatingMatrix:
    """Fakes that are among as many users' k most similar as gradients can bring them.

    k           neighbors of the recommender attacked
    softness    b, within which a user counts in part
    sparsity    η
    iterations  gradient steps for each fake
    step        largest change of a rating in one, as a fraction of the maximum
    """
    check("k", k, 1)
    check("softness", softness, 1e-6)
    check("sparsity", sparsity, 0)
    check("iterations", iterations, 1)
    check("step", step, 0, 1)
    rows = sparse(ratings)
    lengths = np.maximum(np.sqrt((rows * rows).sum(axis=1)), 1e-12)
    kept = similarities(rows, lengths, min(k, ratings.user_count - 1))
    means, deviations = item_statistics(ratings)
    items = fillable(ratings, targets)
    room = min(budget.profile_size - len(targets), len(items))
    fakes = []
    for _ in range(budget.fakes):
        relaxed = rng.random(ratings.item_count) * 0.1
        relaxed[list(targets)] = 1
        for _ in range(iterations):
            gradient = descent(rows, lengths, relaxed, kept[:, 0], softness) - sparsity
            gradient[list(targets)] = 0
            relaxed = ascend(relaxed, gradient, step=step)
        chosen = items[np.argsort(-relaxed[items], kind="stable")[:room]]
        fakes.append((np.sort(chosen), rng.normal(means[chosen], deviations[chosen])))
        made = sparse(assemble(ratings, targets, fakes[-1:]))
        alike = cosines(rows, lengths, made.toarray()[0])
        # The k largest stay; the least of them is what the next fake has to exceed.
        kept[:, 0] = np.maximum(kept[:, 0], alike)
        kept.sort(axis=1)
    return assemble(ratings, targets, fakes)


def cosines(rows: Sparse, lengths: Floats, profile: Floats) -> Floats:
    """Of a profile [I] and each user's ratings, [U]."""
    products: Floats = rows @ profile
    return products / lengths / max(float(np.linalg.norm(profile)), 1e-12)


def descent(
    rows: Sparse, lengths: Floats, profile: Floats, bounds: Floats, softness: float
) -> Floats:
    """−∂/∂w of Σ_u σ((θ_u − cos(r_u, w)) / b) at w = `profile`, [I]."""
    norm = max(float(np.linalg.norm(profile)), 1e-12)
    alike = cosines(rows, lengths, profile)
    inside = sigmoid((bounds - alike) / softness)
    slopes = inside * (1 - inside) / softness
    pull: Floats = rows.T @ (slopes / lengths) / norm
    return pull - profile * float(slopes @ alike) / norm**2


def similarities(rows: Sparse, lengths: Floats, count: int) -> NDArray[np.float64]:
    """Cosines of each user's `count` most similar others, least first, [U, k]."""
    users = rows.shape[0]
    across = rows.T.tocsr()
    kept = np.empty((users, count))
    for first in range(0, users, USERS_AT_ONCE):
        some = np.arange(first, min(first + USERS_AT_ONCE, users))
        alike = (rows[some] @ across).toarray() / lengths[some, None] / lengths
        alike[np.arange(len(some)), some] = -1
        kept[some] = np.sort(np.partition(alike, users - count, axis=1)[:, users - count :], axis=1)
    return kept
