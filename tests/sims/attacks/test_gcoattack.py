"""GCoAttack: pseudo-ratings are where two models agree, and its steps lower the loss."""

import numpy as np

from server.data.synthetic import synthetic
from sims.attacks import make_profiles
from sims.attacks.gcoattack import agreed, others
from sims.attacks.mixinf import attack_loss, loss_sensitivity
from sims.attacks.surrogate import Factors, refit, sparse, start, top_lists

REAL = synthetic(60, 40, seed=2)
TARGETS = (3, 7)


def fitted(seed: int) -> Factors:
    rng = np.random.default_rng(seed)
    return start(sparse(REAL), width=3, ridge=1.0, sweeps=60, rng=rng)


def test_pseudo_ratings_are_what_two_models_agree_on() -> None:
    one, two = fitted(0), fitted(1)
    rng = np.random.default_rng(4)
    found = agreed(sparse(REAL), one, two, 2000, REAL.scale, rng).toarray()
    rated = REAL.dense() > 0
    assert found.any() and not (found.astype(bool) & rated).any()
    levels = [
        REAL.scale.nearest_levels(model.users @ model.items.T * REAL.scale.maximum)
        for model in (one, two)
    ]
    same = (levels[0] == levels[1]) & ~rated
    assert not (found.astype(bool) & ~same).any()
    expected = REAL.scale.fractions[levels[0]]
    np.testing.assert_allclose(found[found > 0], expected[found > 0])


def test_each_model_is_taught_by_the_two_others() -> None:
    models = [fitted(seed) for seed in range(3)]
    for each in range(3):
        teachers = others(models, each)
        assert all(teacher is not models[each] for teacher in teachers)


def test_the_derivative_of_the_loss_is_that_of_fitting_again() -> None:
    table = sparse(REAL)
    # A tight fit, so that differences of refits are those of minima.
    factors = refit(table, fitted(0), 4000)
    lists = top_lists(table, factors, 5, without=TARGETS)
    found = loss_sensitivity(table, factors, 60, TARGETS, 5, 400)
    rows = np.repeat(np.arange(60), np.diff(table.indptr))
    slopes, step = [], 1e-4
    places = range(0, table.nnz, table.nnz // 8)
    for place in places:
        losses = []
        for sign in (1, -1):
            moved = table.copy()
            moved.data[place] += sign * step
            losses.append(attack_loss(refit(moved, factors, 1500), lists, TARGETS)[0])
        slopes.append((losses[0] - losses[1]) / (2 * step))
    picked = np.array(list(places))
    derived = found.of_values(rows[picked], table.indices[picked])
    np.testing.assert_allclose(derived, slopes, rtol=0.05, atol=0.02 * np.abs(slopes).max())


def test_without_others_to_agree_with_it_is_another_attack() -> None:
    options = {"iterations": 3, "candidates": 2.0}
    game, alone = (
        make_profiles("gcoattack", REAL, seed=0, attack_size=0.1, options={**options, "models": n})
        for n in (3, 1)
    )
    assert game.ratings.digest() != alone.ratings.digest()
