"""UNAttack: its gradient, and that its fakes are neighbors."""

import numpy as np

from server.data.synthetic import synthetic
from sims.attacks import make_profiles
from sims.attacks.surrogate import sigmoid, sparse
from sims.attacks.unattack import cosines, descent, similarities

REAL = synthetic(120, 60, seed=2)
ROWS = sparse(REAL)
LENGTHS = np.sqrt((ROWS * ROWS).sum(axis=1))


def test_the_gradient_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    profile, bounds = rng.random(60), rng.uniform(0.1, 0.6, 120)

    def loss(at: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        return float(sigmoid((bounds - cosines(ROWS, LENGTHS, at)) / 0.05).sum())

    found = descent(ROWS, LENGTHS, profile, bounds, 0.05)
    for item in range(0, 60, 7):
        step = np.zeros(60)
        step[item] = 1e-5
        slope = (loss(profile + step) - loss(profile - step)) / 2e-5
        np.testing.assert_allclose(-found[item], slope, rtol=1e-4, atol=1e-8)


def test_the_similarities_kept_are_the_largest() -> None:
    table = REAL.dense().astype(np.float64)
    whole = table @ table.T / np.outer(LENGTHS, LENGTHS) - 9 * np.eye(120)
    np.testing.assert_allclose(
        similarities(ROWS, LENGTHS, 7), np.sort(whole, axis=1)[:, -7:], atol=1e-9
    )


def test_its_fakes_are_neighbors_more_often_than_mixtures() -> None:
    real = synthetic(400, 150, seed=2)
    share = {}
    for name in ("unattack", "mixrand"):
        both = real.stack(make_profiles(name, real, seed=0, attack_size=0.05).ratings)
        table = both.dense().astype(np.float64)
        table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        alike = table[:400] @ table.T
        alike[np.arange(400), np.arange(400)] = -1
        share[name] = float((np.argsort(-alike, axis=1)[:, :20] >= 400).mean())
    assert share["unattack"] > 2 * share["mixrand"], share
