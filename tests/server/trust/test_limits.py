"""Rates and budgets, with clocks of their own."""

import asyncio

import numpy as np
import pytest

from common.wire import offload_pb2 as wire
from server.trust.limits import (
    BURST_SECONDS,
    SECONDS_PER_DAY,
    BudgetedWorkers,
    BudgetSpentError,
    NeighborBudget,
    RateLimit,
)
from server.workers.frames import Call, Status, WorkerResult


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


def test_neighbors_shown_before_are_free_and_midnight_forgets() -> None:
    clock = Clock()
    budget = NeighborBudget(5, clock=clock)

    def show(user: int, *neighbors: int) -> None:
        budget.show(user, np.array(neighbors, dtype=np.uint32))

    show(1, 10, 11, 12)
    show(1, 12, 11, 10)
    with pytest.raises(BudgetSpentError):
        show(1, 13, 14, 15)
    # What was held back was not shown: two more fit.
    show(1, 13, 14)
    show(2, 15, 16)
    with pytest.raises(BudgetSpentError):
        show(1, 15)
    show(1, 10, 14)
    clock.now = SECONDS_PER_DAY - 0.5
    with pytest.raises(BudgetSpentError):
        show(1, 15)
    clock.now = float(SECONDS_PER_DAY)
    show(1, 15, 16, 17, 18, 19)


def test_a_package_counts_the_neighbors_and_not_the_user() -> None:
    class Fixed:
        def __init__(self) -> None:
            self.status = Status.ANSWERED

        async def ask(self, call: Call, preset: str, request: bytes) -> WorkerResult:
            neighbors = np.array([7, 20, 21], dtype="<u4").tobytes()
            return WorkerResult(self.status, b"reply", neighbors=neighbors)

    fixed = Fixed()
    workers = BudgetedWorkers(fixed, NeighborBudget(2, clock=Clock()))

    def ask(user: int, call: Call = "GetPackage") -> WorkerResult:
        request = wire.PackageRequest(user=user).SerializeToString()
        return asyncio.run(workers.ask(call, "paper", request))

    assert ask(7).data == b"reply"
    with pytest.raises(BudgetSpentError):
        ask(8)
    # Neither a list of items nor a refusal shows anybody.
    assert ask(8, "Recommend").data == b"reply"
    fixed.status = Status.REFUSED
    assert ask(8).status is Status.REFUSED
