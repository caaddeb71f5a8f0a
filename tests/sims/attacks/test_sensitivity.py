"""The surrogate and its implicit derivatives, against a full refit."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sims.attacks.sensitivity import sensitivity
from sims.attacks.surrogate import Factors, Sparse, grams, refit, residuals, start, top_lists

# Enough for a fixed point to ten digits on these cases.
CONVERGED = 800


def case(seed: int) -> Sparse:
    rng = np.random.default_rng(seed)
    rated = rng.random((12, 9)) < 0.6
    rated[:, 0] = True
    rows, columns = np.nonzero(rated)
    values = rng.uniform(0.2, 1, len(rows))
    return csr_array((values, (rows, columns)), shape=rated.shape)


def fitted(ratings: Sparse, seed: int) -> Factors:
    rng = np.random.default_rng(seed)
    return start(ratings, width=2, ridge=0.3, sweeps=CONVERGED, rng=rng)


def linear(factors: Factors, weights: NDArray[np.float64]) -> float:
    """R = Σ weights ∘ predictions: what an attack's utility looks like near a fit."""
    return float((weights * (factors.users @ factors.items.T)).sum())


def objective(ratings: Sparse, factors: Factors) -> float:
    squares = float((residuals(ratings, factors).data ** 2).sum())
    return squares + factors.ridge * float((factors.users**2).sum() + (factors.items**2).sum())


def test_every_sweep_lowers_the_objective() -> None:
    ratings = case(0)
    factors = start(ratings, width=2, ridge=0.3, sweeps=1, rng=np.random.default_rng(0))
    for _ in range(5):
        better = refit(ratings, factors, 1)
        assert objective(ratings, better) < objective(ratings, factors)
        factors = better


def test_a_stored_zero_is_a_rating_and_nothing_stored_is_none() -> None:
    ratings = csr_array((np.array([0.0, 1.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 3))
    items = np.array([[1.0], [2.0], [4.0]])
    np.testing.assert_allclose(grams(ratings, items, 0.5), [[[1 + 4 + 0.5]]])


@pytest.mark.parametrize("seed", range(3))
def test_derivatives_are_those_of_a_full_refit(seed: int) -> None:
    ratings, rng = case(seed), np.random.default_rng(seed + 100)
    factors = fitted(ratings, seed)
    weights = rng.normal(size=ratings.shape)
    found = sensitivity(
        ratings, factors, weights @ factors.items, weights.T @ factors.users, CONVERGED
    )
    rows, columns = ratings.nonzero()
    gradient = found.of_values(rows, columns)
    step = 1e-4
    for place in rng.choice(len(rows), 4, replace=False):
        ends = []
        for signed in (step, -step):
            moved = ratings.copy()
            moved.data[place] += signed
            ends.append(linear(refit(moved, factors, CONVERGED), weights))
        measured = (ends[0] - ends[1]) / (2 * step)
        assert gradient[place] == pytest.approx(measured, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_derivative_by_a_rating_s_weight_is_its_error_times_that_by_its_value(
    seed: int,
) -> None:
    ratings, rng = case(seed), np.random.default_rng(seed + 200)
    factors = fitted(ratings, seed)
    weights = rng.normal(size=ratings.shape)
    found = sensitivity(
        ratings, factors, weights @ factors.items, weights.T @ factors.users, CONVERGED
    )
    rows, columns = ratings.nonzero()
    by_weight = residuals(ratings, factors).data * found.of_values(rows, columns)
    # Every rating of item 0 weighed (1 + step): the same as its users and it weighed alone.
    step = 1e-4
    ends = [
        linear(_refit_weighted(ratings, factors, 1 + signed), weights) for signed in (step, -step)
    ]
    measured = (ends[0] - ends[1]) / (2 * step)
    assert by_weight[columns == 0].sum() == pytest.approx(measured, rel=1e-3, abs=1e-6)


def _refit_weighted(ratings: Sparse, factors: Factors, weight: float) -> Factors:
    """ALS written out, with every rating of item 0 weighed."""
    users, items = factors.users.copy(), factors.items.copy()
    table, rated = ratings.toarray(), ratings.toarray() > 0
    weights = np.where(np.arange(table.shape[1]) == 0, weight, 1.0)
    ridge = factors.ridge * np.eye(users.shape[1])
    for _ in range(CONVERGED // 4):
        for u in range(len(users)):
            on = rated[u]
            y, w = items[on], weights[on, None]
            users[u] = np.linalg.solve(ridge + y.T @ (w * y), y.T @ (w[:, 0] * table[u, on]))
        for i in range(len(items)):
            on = rated[:, i]
            x = users[on]
            items[i] = np.linalg.solve(
                ridge + weights[i] * x.T @ x, weights[i] * x.T @ table[on, i]
            )
    return Factors(users, items, factors.ridge)


def test_with_users_held_fixed_an_item_moves_by_its_own_equation() -> None:
    # Li et al. 2016: dy_i/dr_ui = (λI + Σ x xᵀ)⁻¹ x_u.
    ratings = case(5)
    factors = fitted(ratings, 5)
    user, item = 3, 0
    across = ratings.T.tocsr()
    predicted = np.linalg.solve(grams(across, factors.users, 0.3)[item], factors.users[user])
    moved = ratings.toarray()
    moved[user, item] += 0.01
    raters = ratings.toarray()[:, item] > 0
    x = factors.users[raters]
    solved = np.linalg.solve(x.T @ x + 0.3 * np.eye(2), x.T @ moved[raters, item])
    np.testing.assert_allclose((solved - factors.items[item]) / 0.01, predicted, rtol=1e-6)


def test_top_lists_hold_the_best_unrated_items() -> None:
    ratings = case(6)
    factors = fitted(ratings, 6)
    scores = factors.users @ factors.items.T
    lists = top_lists(ratings, factors, 2, without=(1,))
    for user, shown in enumerate(lists):
        free = [i for i in range(9) if ratings[user, i] == 0 and i != 1]
        best = sorted(free, key=lambda item: -scores[user, item])[:2]
        assert 1 not in shown
        if len(free) >= 2:
            assert set(shown.tolist()) == set(best)
