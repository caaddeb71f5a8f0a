"""TNA (Fang, Gong & Liu 2020, "Influence function based data poisoning attacks to top-N
recommender systems", S-TNA-Inf).

Fakes are made one after the other. S are the users who influence the targets' predictions most,
by the influence function of their ratings. A fake's relaxed ratings w ∈ [0, 1]^I (fractions of
the maximum, the targets' fixed at 1) minimize, by projected gradient descent,

    Σ_{u∈S} Σ_t Σ_{i∈Γ_u} σ((r̂_ui − r̂_ut)/b) + η‖w‖₁,      Γ_u the current top N of u,

where the surrogate's response to the fake has a closed form: its factor is z = C⁻¹ Σ_j w_j y_j with
C = λI + Σ_j y_j y_jᵀ, and an item's becomes y_i + (A_i + z zᵀ)⁻¹ z (w_i − z·y_i). The items with
the largest w are its fillers, rated N(μ_i, σ_i); the surrogate is refitted before the next fake.

Fang et al. hold z fixed in the derivative. Here z changes with w: with z fixed no filler would
change the prediction of a target.

Shapes: S influential users, n items that are compared (targets first), t targets, N list length,
I items, d width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from common.ratings import RatingMatrix
from sims.attacks.average import item_statistics
from sims.attacks.budget import Budget, assemble, fillable
from sims.attacks.options import check
from sims.attacks.pga import utility_gradients
from sims.attacks.sensitivity import sensitivity
from sims.attacks.surrogate import (
    Factors,
    Floats,
    Sparse,
    ascend,
    inverse_grams,
    refit,
    residuals,
    row_indices,
    sigmoid,
    sparse,
    start,
    top_lists,
)

FIRST_SWEEPS = 10


@dataclass(frozen=True)
class Response:
    """What one more fake would do to the surrogate, as a function of its ratings w [I].

    users    x_u of S, [S, d]
    items    y_i of all items, [I, d]
    compared indices of the n items that matter: targets, then all of the lists, [n]
    lists    Γ_u as positions in `compared`, [S, N]
    inverses A_i⁻¹ of the compared items, [n, d, d]
    projector C⁻¹, [d, d]
    """

    users: Floats
    items: Floats
    compared: NDArray[np.int64]
    lists: NDArray[np.int64]
    inverses: Floats
    projector: Floats
    target_count: int
    softness: float

    def loss(self, w: Floats) -> tuple[float, Floats]:
        """Σ σ((r̂_ui − r̂_ut)/b) and its gradient by w, [I]."""
        z = self.projector @ (w @ self.items)
        before = self.items[self.compared]
        turned = self.inverses @ z
        spread = 1 + turned @ z
        errors = w[self.compared] - before @ z
        after = before + turned * (errors / spread)[:, None]

        predicted = self.users @ after.T
        listed = np.take_along_axis(predicted, self.lists, axis=1)
        by_prediction = np.zeros_like(predicted)
        total = 0.0
        rows = np.arange(len(listed))[:, None]
        for target in range(self.target_count):
            behind = sigmoid((listed - predicted[:, [target]]) / self.softness)
            total += float(behind.sum())
            slope = behind * (1 - behind) / self.softness
            by_prediction[rows, self.lists] += slope
            by_prediction[:, target] -= slope.sum(axis=1)

        by_items = by_prediction.T @ self.users
        along = (by_items * turned).sum(axis=1)
        gradient = np.zeros(len(w))
        gradient[self.compared] = along / spread
        by_z = np.einsum("nij,nj,n->i", self.inverses, by_items, errors / spread)
        by_z -= (along / spread) @ before + 2 * (along * errors / spread**2) @ turned
        return total, gradient + self.items @ (self.projector @ by_z)


def tna_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    width: int = 8,
    ridge: float = 0.1,
    influential: int = 300,
    list_length: int = 10,
    softness: float = 0.01,
    sparsity: float = 0.01,
    iterations: int = 20,
    step: float = 0.1,
) -> RatingMatrix:
    """Fakes one by one, each against the lists of the most influential users.

    width, ridge  of the surrogate
    influential   users in S
    list_length   N
    softness      b, as a fraction of the maximum rating
    sparsity      η
    iterations    gradient steps of each fake
    step          largest change of a rating in one, as a fraction of the maximum
    """
    check("influential", influential, 1)
    check("list_length", list_length, 1)
    check("softness", softness, 1e-4)
    check("sparsity", sparsity, 0)
    check("iterations", iterations, 0)
    check("step", step, 0, 1)
    means, deviations = item_statistics(ratings)
    items = fillable(ratings, targets)
    room = min(budget.profile_size - len(targets), len(items))
    both = sparse(ratings)
    factors = start(both, width=width, ridge=ridge, sweeps=FIRST_SWEEPS, rng=rng)
    victims = influential_users(both, factors, targets, influential)
    fillers = []
    for _ in range(budget.fakes):
        response = respond(both, factors, victims, targets, list_length, softness)
        w = _descend(response, items, targets, sparsity, iterations, step, rng)
        # In a random order, so that items which reached the bound are taken by chance.
        mixed = rng.permutation(items)
        best = mixed[np.argsort(-w[mixed], kind="stable")[:room]]
        values = rng.normal(means[best], deviations[best])
        fillers.append((best, values))
        fake = sparse(assemble(ratings, targets, [(best, values)]))
        both = vstack([both, fake], format="csr")
        factors = refit(both, factors, 1)
    return assemble(ratings, targets, fillers)


def influential_users(
    ratings: Sparse, factors: Factors, targets: tuple[int, ...], count: int, sweeps: int = 3
) -> NDArray[np.int64]:
    """The users whose removal would change the targets' predictions most, [S].

    To first order, removal of u's ratings changes Σ_u Σ_t r̂_ut by −Σ_i e_ui ∂R/∂r_ui.
    """
    users = ratings.shape[0]
    by_users, by_items = utility_gradients(factors, users, targets)
    found = sensitivity(ratings, factors, by_users, by_items, sweeps)
    rows = row_indices(ratings)
    weights = residuals(ratings, factors).data * found.of_values(rows, ratings.indices)
    influence = np.abs(np.bincount(rows, weights, users))
    return np.argsort(-influence, kind="stable")[:count]


def respond(
    ratings: Sparse,
    factors: Factors,
    victims: NDArray[np.int64],
    targets: tuple[int, ...],
    list_length: int,
    softness: float,
) -> Response:
    """The surrogate's answer to one more fake below `ratings`."""
    users = Factors(factors.users[victims], factors.items, factors.ridge)
    lists = top_lists(ratings[victims], users, list_length, without=targets)
    listed, places = np.unique(lists, return_inverse=True)
    compared = np.concatenate([np.array(targets, dtype=np.int64), listed])
    columns = csr_array(ratings[:, compared].T)
    inverses = inverse_grams(columns, factors.users, factors.ridge)
    width = factors.items.shape[1]
    square = factors.items.T @ factors.items + factors.ridge * np.eye(width)
    return Response(
        users.users,
        factors.items,
        compared,
        places.reshape(lists.shape) + len(targets),
        inverses,
        np.asarray(np.linalg.inv(square), dtype=np.float64),
        len(targets),
        softness,
    )


def _descend(
    response: Response,
    items: NDArray[np.int64],
    targets: tuple[int, ...],
    sparsity: float,
    iterations: int,
    step: float,
    rng: np.random.Generator,
) -> Floats:
    """Relaxed ratings of one fake after projected gradient descent, [I]."""
    w = np.zeros(len(response.items))
    w[items] = rng.uniform(0, 1, len(items))
    w[list(targets)] = 1
    for _ in range(iterations):
        _, gradient = response.loss(w)
        gradient = gradient[items] + sparsity
        w[items] = ascend(w[items], -gradient, step=step)
    return w
