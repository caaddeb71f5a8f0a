"""Theorems 1 and 2 on matrix factorization with fixed items: measured stays below the bound."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sims.theory.bounds
from sims.theory.bounds import (
    FixedItems,
    Regularity,
    deletion_bound,
    descend,
    distance_bound,
    excess_loss_bound,
    looseness,
    random_case,
    sufficient_training,
    tuned_distance,
)

# Rounding of sums of a hundred terms of order 1.
ROUNDING = 1e-9

cases = st.builds(
    lambda entries, width, ridge, seed: random_case(
        entries=entries, width=width, ridge=ridge, rng=np.random.default_rng(seed)
    ),
    st.integers(2, 40),
    st.integers(1, 8),
    st.floats(0.01, 10),
    st.integers(0, 2**32),
)
steps = st.integers(0, 60)


def kept_of(case: FixedItems, share: float) -> int:
    return max(1, round(share * (len(case.ratings) - 1)))


@given(cases, st.floats(0, 1))
def test_deletion_moves_the_minimizer_no_further(case: FixedItems, share: float) -> None:
    kept = kept_of(case, share)
    minimizers = case.minimizer(), case.keep(kept).minimizer()
    radius = max(float(np.linalg.norm(p)) for p in minimizers)
    bound = deletion_bound(case.regularity(radius), entries=len(case.ratings), kept=kept)
    assert np.linalg.norm(minimizers[0] - minimizers[1]) <= bound + ROUNDING


@given(cases, steps)
def test_gradient_descent_converges_linearly(case: FixedItems, count: int) -> None:
    minimizer = case.minimizer()
    loss = case.regularity(float(np.linalg.norm(minimizer)))
    p = descend(case, np.zeros_like(minimizer), step=loss.step, steps=count)
    bound = loss.contraction**count * np.linalg.norm(minimizer)
    assert np.linalg.norm(p - minimizer) <= bound + ROUNDING


@given(cases, st.floats(0, 1), steps, steps)
def test_theorem_1(case: FixedItems, share: float, trained: int, tuned: int) -> None:
    measured, bound = tuned_distance(case, kept=kept_of(case, share), trained=trained, tuned=tuned)
    assert measured <= bound + ROUNDING


@settings(max_examples=60)
@given(cases, st.floats(0, 1), st.floats(0.01, 10), steps, steps)
def test_theorem_2(case: FixedItems, share: float, weight: float, trained: int, tuned: int) -> None:
    convex = FixedItems(case.items, case.ratings, 0.0)
    rest = convex.keep(kept_of(case, share))
    least = rest.minimizer()
    radius = max(float(np.linalg.norm(p)) for p in (convex.minimizer(), least))
    loss = convex.regularity(radius)
    step = loss.regularized(weight, radius).step
    p = np.zeros_like(least)
    for part, count in ((convex, trained), (rest, tuned)):
        # weight/2 ‖p‖² is a ridge of weight/2.
        p = descend(FixedItems(part.items, part.ratings, weight / 2), p, step=step, steps=count)
    bound = excess_loss_bound(
        loss,
        weight=weight,
        radius=radius,
        entries=len(case.ratings),
        kept=len(rest.ratings),
        trained=trained,
        tuned=tuned,
    )
    assert rest.value(p) - rest.value(least) <= bound + ROUNDING


@given(cases, st.integers(0, 2**32))
def test_the_gradient_is_the_value_s(case: FixedItems, seed: int) -> None:
    p, along = np.random.default_rng(seed).normal(size=(2, case.items.shape[1]))
    slope = (case.value(p + 1e-5 * along) - case.value(p - 1e-5 * along)) / 2e-5
    assert slope == pytest.approx(case.gradient(p) @ along, rel=1e-5, abs=1e-5)


def test_sufficient_training_makes_the_deletion_the_larger_part() -> None:
    loss = Regularity(1.0, 0.5, 9.0)
    enough = sufficient_training(loss, entries=100, kept=90, start=10.0)
    moved = deletion_bound(loss, entries=100, kept=90)
    for trained, holds in ((enough, True), (enough - 1, False)):
        bound = distance_bound(loss, entries=100, kept=90, start=10.0, trained=trained, tuned=0)
        assert (bound <= 2 * moved) is holds


def test_more_kept_entries_and_more_steps_lower_the_bound() -> None:
    loss = Regularity(1.0, 0.5, 9.0)
    bounds = [deletion_bound(loss, entries=100, kept=kept) for kept in (10, 50, 90, 100)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] == 0


def test_the_bound_is_not_vacuous_where_the_ridge_is_strong() -> None:
    # A ridge of 10 leaves κ near 1: the bound stays within two orders of what is measured.
    ratios = looseness(ridge=10.0, tuned=0, seed=0)
    assert ratios.min() >= 1
    assert np.median(ratios) < 100


def test_the_hand_calculation_in_the_docstring() -> None:
    assert doctest.testmod(sims.theory.bounds).failed == 0
