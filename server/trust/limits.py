"""Calls a second of each user.

The front counts them, so that they outlast a worker, and forgets: memory is bounded by who asked
lately.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, final

# A burst of this many seconds' calls is let through, and of one call at least.
BURST_SECONDS: Final = 10.0


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
