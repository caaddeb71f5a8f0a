"""TNA: its gradient by finite differences, its closed form by refits, influence by removal."""

import numpy as np
import pytest

from server.data.synthetic import synthetic
from sims.attacks.surrogate import Factors, refit, sparse, start
from sims.attacks.tna import influential_users, respond

REAL = synthetic(40, 30, seed=5)
TARGETS = (4, 20)


def surrogate(sweeps: int = 50, ridge: float = 0.3) -> Factors:
    rng = np.random.default_rng(1)
    return start(sparse(REAL), width=3, ridge=ridge, sweeps=sweeps, rng=rng)


@pytest.mark.parametrize("softness", [0.05, 0.5])
def test_the_gradient_matches_finite_differences(softness: float) -> None:
    rng = np.random.default_rng(2)
    response = respond(sparse(REAL), surrogate(), np.arange(20), TARGETS, 5, softness)
    w = rng.uniform(0, 1, REAL.item_count)
    _, gradient = response.loss(w)
    for item in range(REAL.item_count):
        nudge = np.zeros_like(w)
        nudge[item] = 1e-5
        measured = (response.loss(w + nudge)[0] - response.loss(w - nudge)[0]) / 2e-5
        assert gradient[item] == pytest.approx(measured, rel=1e-4, abs=1e-5)


def test_the_closed_form_is_one_half_sweep_with_the_fake_in_it() -> None:
    factors = surrogate()
    response = respond(sparse(REAL), factors, np.arange(8), TARGETS, 5, 0.1)
    w = np.random.default_rng(3).uniform(0, 1, REAL.item_count)
    # The fake's factor by least squares over all items, then each item's with the fake as a rater.
    square = factors.items.T @ factors.items + 0.3 * np.eye(3)
    z = np.linalg.solve(square, factors.items.T @ w)
    table = REAL.dense().astype(float)
    items = np.empty_like(factors.items)
    for item in range(REAL.item_count):
        x = np.vstack([factors.users[table[:, item] > 0], z])
        values = np.append(table[table[:, item] > 0, item], w[item])
        items[item] = np.linalg.solve(x.T @ x + 0.3 * np.eye(3), x.T @ values)
    predicted = factors.users[:8] @ items.T
    expected = 0.0
    for user, places in enumerate(response.lists):
        for listed in response.compared[places]:
            for target in TARGETS:
                lead = (predicted[user, listed] - predicted[user, target]) / 0.1
                expected += 1 / (1 + np.exp(-lead))
    # ALS at its fixed point solves for items given users, so both start from the same items.
    assert response.loss(w)[0] == pytest.approx(expected, rel=1e-6)


def test_influential_users_are_those_whose_removal_matters_most() -> None:
    ratings = sparse(REAL)
    factors = surrogate(sweeps=1000, ridge=1.0)
    promoted = list(TARGETS)

    def predicted(of: Factors, without: int) -> float:
        kept = np.delete(of.users, without, axis=0) if without >= 0 else of.users
        return float((kept @ of.items[promoted].T).sum())

    effects = []
    for user in range(REAL.user_count):
        lighter = ratings.copy()
        row = slice(lighter.indptr[user], lighter.indptr[user + 1])
        kept = np.delete(np.arange(ratings.nnz), np.arange(row.start, row.stop))
        indptr = lighter.indptr.copy()
        indptr[user + 1 :] -= row.stop - row.start
        removed = type(ratings)(
            (ratings.data[kept], ratings.indices[kept], indptr), shape=ratings.shape
        )
        after = refit(removed, factors, 300)
        effects.append(abs(predicted(after, -1) - predicted(factors, -1)))
    order = influential_users(ratings, factors, TARGETS, REAL.user_count, sweeps=200)
    rank = np.empty(REAL.user_count)
    rank[order] = np.arange(REAL.user_count)
    by_effect = np.argsort(np.argsort(-np.array(effects)))
    assert np.corrcoef(rank, by_effect)[0, 1] > 0.7
