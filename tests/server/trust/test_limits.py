"""Rates, with clocks of their own."""

import pytest

from server.trust.limits import BURST_SECONDS, RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(2.0, clock=clock)
    assert [limit.wait(7) for _ in range(20)] == [0.0] * 20
    assert limit.wait(7) == pytest.approx(0.5)
    # Being refused costs nothing, and another user has a bucket of its own.
    assert limit.wait(7) == pytest.approx(0.5) and limit.wait(8) == 0
    clock.now += 0.5
    assert limit.wait(7) == 0 and limit.wait(7) > 0


def test_over_a_long_time_no_more_than_the_rate_passes() -> None:
    clock = Clock()
    limit = RateLimit(3.0, clock=clock)
    passed = 0
    for _ in range(10_000):
        clock.now += 0.01
        passed += limit.wait(1) == 0
    assert passed == pytest.approx(100 * 3.0 + 3.0 * BURST_SECONDS, abs=1)


def test_a_rate_below_one_in_a_burst_lets_one_through() -> None:
    clock = Clock()
    limit = RateLimit(0.01, clock=clock)
    assert limit.wait(1) == 0 and limit.wait(1) == pytest.approx(100)
    clock.now += 100
    assert limit.wait(1) == 0


def test_who_has_been_away_is_forgotten() -> None:
    clock = Clock()
    limit = RateLimit(10.0, clock=clock)
    for user in range(5000):
        clock.now += 0.01
        assert limit.wait(user) == 0
    # 10 seconds fill any bucket, and 1000 users came in the last 10.
    assert len(limit) <= 1001
