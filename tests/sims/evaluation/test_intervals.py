"""Resampling and permutation against slow versions, textbook formulas and sure cases."""

import numpy as np
import pytest

from sims.evaluation.intervals import PERMUTATIONS, RESAMPLES, interval, permutation_p, resampled
from sims.evaluation.metrics import Ratio
from sims.numbers import stream


def ratio(won: list[list[float]], possible: list[list[float]] | None = None) -> Ratio:
    hits = np.array(won, dtype=np.float64)
    return Ratio(hits, np.ones_like(hits) if possible is None else np.array(possible))


def test_resamples_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    possible = (rng.random((30, 2)) < 0.7).astype(np.float64)
    one = Ratio((rng.random((30, 2)) < 0.4) * possible, possible)
    two = Ratio(rng.random((30, 1)), np.ones((30, 1)))
    found = resampled({"one": one, "two": two}, seed=5)
    drawn = stream(5, "bootstrap").integers(0, 30, (RESAMPLES, 30))
    for name, each in (("one", one), ("two", two)):
        expected = [
            np.mean(each.won[users].sum(axis=0) / each.possible[users].sum(axis=0))
            for users in drawn
        ]
        np.testing.assert_allclose(found[name], expected, rtol=1e-12)
    again = resampled({"two": two}, seed=5)["two"]
    np.testing.assert_allclose(again, found["two"], rtol=1e-12)
    assert (resampled({"two": two}, seed=6)["two"] != again).any()


def test_the_interval_of_a_share_is_the_textbooks() -> None:
    hits = [[1.0]] * 120 + [[0.0]] * 280
    low, high = interval(resampled({"a": ratio(hits)}, seed=0)["a"]) or (0, 0)
    spread = 1.96 * (0.3 * 0.7 / 400) ** 0.5
    assert low == pytest.approx(0.3 - spread, abs=0.006)
    assert high == pytest.approx(0.3 + spread, abs=0.006)


def test_what_was_not_possible_has_no_interval() -> None:
    nothing = ratio([[0.0], [0.0]], [[0.0], [0.0]])
    assert nothing.value is None
    draws = resampled({"a": nothing, "b": ratio([[1.0], [1.0]])}, seed=0)
    assert interval(draws["a"]) is None and interval(draws["b"]) == (1.0, 1.0)
    # One column of two is possible: the value is that column's.
    half = ratio([[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]])
    assert half.value == 0.5
    draws = resampled({"a": half}, seed=0)
    assert interval(draws["a"]) == (0.0, 1.0)


def test_p_of_few_users_is_the_exact_one() -> None:
    # All of 5 users better: of 32 ways to swap, 2 are as far; of 4 better and 1 worse, 12 are.
    parts = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, -1.0]]) / 5
    found = permutation_p(parts, seed=0)
    assert found[0] == pytest.approx(2 / 32, abs=0.01)
    assert found[1] == pytest.approx(12 / 32, abs=0.02)


def test_p_of_a_sure_and_of_no_difference() -> None:
    sure, none = np.ones((100, 1)), np.array([[1.0], [-1.0]] * 50) / 3
    assert permutation_p(sure, seed=0)[0] == 1 / (PERMUTATIONS + 1)
    assert permutation_p(none, seed=0)[0] == 1
    assert permutation_p(np.zeros((10, 1)), seed=0)[0] == 1


def test_p_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(3)
    chances = permutation_p(rng.integers(-1, 2, (80, 300)).astype(np.float64), seed=0)
    assert 0.01 <= (chances <= 0.05).mean() <= 0.09
