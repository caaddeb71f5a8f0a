"""Limits of each user: calls a second, and distinct neighbors shown in a day.

Both are kept by the front, so that they outlast a worker, and both forget: memory is bounded by
who asked lately.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.wire import offload_pb2 as wire
from server.workers.frames import Call, Status, WorkerResult, Workers

SECONDS_PER_DAY: Final = 86_400
# A burst of this many seconds' calls is let through, and of one call at least.
BURST_SECONDS: Final = 10.0
BUDGET_TEXT: Final = (
    "this user has been shown as many neighbors as a day allows: come back tomorrow"
)


class BudgetSpentError(Exception):
    """A package would show more distinct neighbors than a user may learn of in a day."""


@final
class RateLimit:
    """A token bucket for each caller: `rate` calls a second, bursts of 10 seconds' worth.

    A bucket that has filled up again is forgotten, because a new one is full too.
    clock  seconds that never go back
    """

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._most = max(1.0, rate * BURST_SECONDS)
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Callers that are remembered."""
        return len(self._buckets)

    def wait(self, caller: Hashable) -> float:
        """0 when a call is let through, which is counted; else seconds until one would be."""
        now = self._clock()
        self._forget(now)
        left, since = self._buckets.get(caller, (self._most, now))
        left = min(self._most, left + (now - since) * self._rate)
        if left < 1:
            return (1 - left) / self._rate
        self._buckets[caller] = left - 1, now
        self._buckets.move_to_end(caller)
        return 0.0

    def _forget(self, now: float) -> None:
        # Whoever has waited long enough to fill any bucket stands first.
        while self._buckets:
            caller, (_, since) = next(iter(self._buckets.items()))
            if (now - since) * self._rate < self._most:
                return
            del self._buckets[caller]


@final
class NeighborBudget:
    """Distinct neighbors that each user has been shown since midnight UTC, `most` at most.

    4 bytes a neighbor and user are kept until then, in sorted arrays.
    clock  seconds since 1970
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._clock = clock
        self._day = -1
        self._shown: dict[int, NDArray[np.uint32]] = {}

    def show(self, user: int, neighbors: NDArray[np.uint32]) -> None:
        """Count what a user is about to be shown, of which those shown before are free.

        Raises BudgetSpentError, and counts nothing then.
        """
        day = int(self._clock() // SECONDS_PER_DAY)
        if day != self._day:
            self._day = day
            self._shown.clear()
        before = self._shown.get(user, np.empty(0, dtype=np.uint32))
        after = np.union1d(before, neighbors)
        if len(after) > self._most:
            raise BudgetSpentError
        self._shown[user] = after


@final
class BudgetedWorkers:
    """Workers whose packages are refused when the user's budget of neighbors is spent."""

    def __init__(self, workers: Workers, budget: NeighborBudget) -> None:
        self._workers = workers
        self._budget = budget

    async def ask(self, call: Call, preset: str, request: bytes) -> WorkerResult:
        """Raises BudgetSpentError, and what the workers themselves raise."""
        result = await self._workers.ask(call, preset, request)
        if call == "GetPackage" and result.status is Status.ANSWERED:
            user = wire.PackageRequest.FromString(request).user
            neighbors = np.frombuffer(result.neighbors, dtype="<u4")
            self._budget.show(user, neighbors[neighbors != user])
        return result
