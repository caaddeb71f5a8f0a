"""Estimates from randomized answers: unbiased, and errors that say how wrong they are."""

from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.wire.randomized import truth_probability
from server.reports.estimates import estimates, ratio, shares

EPSILONS = st.floats(0.1, 10.0)


def randomized(true: np.ndarray, epsilon: float, rng: np.random.Generator) -> np.ndarray:
    """What devices say, one by one as the contract words it, [n]."""
    says_truth = rng.random(len(true)) < exp(epsilon) / (exp(epsilon) + 2)
    other = (true + rng.integers(1, 3, len(true))) % 3
    return np.where(says_truth, true, other)


@given(counts=st.tuples(*[st.integers(0, 10_000)] * 3).filter(any), epsilon=EPSILONS)
def test_expected_answers_give_back_the_truth(counts: tuple[int, ...], epsilon: float) -> None:
    truth = truth_probability(epsilon)
    total = sum(counts)
    expected = [c * truth + (total - c) * (1 - truth) / 2 for c in counts]
    found = shares(expected, epsilon)  # type: ignore[arg-type]  # shares of reals
    assert found == pytest.approx([c / total for c in counts], abs=1e-6 / (truth - 1 / 3))
    assert sum(found) == pytest.approx(1.0)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    epsilon=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    shown=st.floats(0.02, 0.9),
    rated=st.floats(0.0, 0.4),
)
def test_estimates_are_unbiased_and_their_errors_cover(
    seed: int, epsilon: float, shown: float, rated: float
) -> None:
    rng = np.random.default_rng(seed)
    devices, runs = 40_000, 60
    chances = [(1 - rated) * (1 - shown), (1 - rated) * shown, rated]
    off = []
    for _ in range(runs):
        said = randomized(rng.choice(3, devices, p=chances), epsilon, rng)
        found = ratio(np.bincount(said, minlength=3).tolist(), epsilon)
        assert found is not None and found.answers == devices
        off.append((found.value - shown) / found.error)
    # Standard normal, if error and estimate are right: mean within 4 errors of its own.
    assert abs(np.mean(off)) < 4 / np.sqrt(runs) + 0.1
    assert 0.6 < np.std(off) < 1.5
    assert np.mean(np.abs(off) < 2.6) > 0.9


def test_every_question_has_its_own_estimate() -> None:
    found = estimates(10.0, [90, 10, 5, 50, 50, 0, 0, 0, 0, 30, 70, 11])
    assert [one and round(one.value, 2) for one in found.hit_ratios] == [0.1, 0.5, None]
    assert found.hit_ratio is not None and round(found.hit_ratio.value, 2) == 0.3
    assert found.hit_ratio.answers == 205
    assert found.accuracy is not None and round(found.accuracy.value, 2) == 0.7


def test_of_nothing_nothing_is_said() -> None:
    found = estimates(1.0, [0] * 6)
    assert (found.hit_ratios, found.hit_ratio, found.accuracy) == ((None,), None, None)
    assert ratio((0, 0, 100), 1.0) is None
