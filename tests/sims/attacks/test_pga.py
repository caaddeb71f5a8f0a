"""PGA: its gradient against full refits, and that ascent ascends."""

import numpy as np
import pytest

from server.data.synthetic import synthetic
from sims.attacks import make_profiles
from sims.attacks.pga import utility_gradients
from sims.attacks.sensitivity import sensitivity
from sims.attacks.surrogate import Factors, refit, sparse, start

REAL = synthetic(60, 40, seed=2)
TARGETS = (5, 17)


def utility(factors: Factors) -> float:
    promoted = factors.items[list(TARGETS)].sum(axis=0)
    return float((factors.users[: REAL.user_count] @ promoted).sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_by_a_fake_s_rating_is_that_of_a_full_refit(seed: int) -> None:
    fakes = make_profiles("average", REAL, seed=seed, targets=TARGETS, attack_size=0.05).ratings
    both = sparse(REAL.stack(fakes))
    factors = start(both, width=2, ridge=0.5, sweeps=800, rng=np.random.default_rng(seed))
    by_users, by_items = utility_gradients(factors, REAL.user_count, TARGETS)
    found = sensitivity(both, factors, by_users, by_items, 800)
    few = sensitivity(both, factors, by_users, by_items, 3)
    rows, columns = both.nonzero()
    places = np.flatnonzero((rows >= REAL.user_count) & ~np.isin(columns, TARGETS))
    gradient = found.of_values(rows, columns)[places]
    measured = np.empty(len(places))
    for index, place in enumerate(places):
        ends = []
        for signed in (1e-3, -1e-3):
            moved = both.copy()
            moved.data[place] += signed
            ends.append(utility(refit(moved, factors, 400)))
        measured[index] = (ends[0] - ends[1]) / 2e-3
    assert len(places) >= 10
    np.testing.assert_allclose(gradient, measured, rtol=2e-2, atol=2e-3)
    # The few sweeps that an attack affords point the same way.
    approximate = few.of_values(rows, columns)[places]
    assert np.corrcoef(approximate, measured)[0, 1] > 0.9


def test_ascent_raises_what_the_surrogate_predicts_for_the_targets() -> None:
    reached = {}
    for name in ("average", "pga"):
        fakes = make_profiles(name, REAL, seed=0, targets=TARGETS, attack_size=0.1).ratings
        both = sparse(REAL.stack(fakes))
        # From another start than the attack's own surrogate.
        rng = np.random.default_rng(9)
        reached[name] = utility(start(both, width=8, ridge=1.0, sweeps=60, rng=rng))
    # Measured: 86.9 and 95; fillers and ratings at random against ascended ones.
    assert reached["pga"] > 1.05 * reached["average"]


def test_the_paper_s_reading_redraws_the_ratings_of_the_same_fillers() -> None:
    optimized, normal = (
        make_profiles("pga", REAL, seed=3, targets=TARGETS, options={"values": values}).ratings
        for values in ("optimized", "normal")
    )
    assert (optimized.items == normal.items).all()
    assert (optimized.levels != normal.levels).any()
