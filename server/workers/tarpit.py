"""Who is refused often waits for its refusals.

A caller who ignores when to come back asks again the moment it is refused. A refusal is cheap, but
not free, and in the process that listens calls wait for one another. The more of them a caller got
lately, the longer the next takes; who is refused once notices nothing.
"""

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Final, final

# A caller with so many refusals in the last seconds waits a second for the next.
REFUSALS_PER_SECOND: Final = 100.0
MEMORY_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 1.0
# Each takes memory; of more, a caller's are refused at once.
MAX_WAITING: Final = 64
MAX_REMEMBERED: Final = 4096


@final
class Tarpit:
    """Refusals of callers, with how many each got lately; for one event loop."""

    def __init__(self) -> None:
        self._recent: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._waiting: Counter[Hashable] = Counter()

    async def hold(self, caller: Hashable) -> None:
        """Count a refusal, and return when it may be told."""
        seconds = self.refused(caller, asyncio.get_running_loop().time())
        if self._waiting[caller] >= MAX_WAITING:
            return
        self._waiting[caller] += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    def refused(self, caller: Hashable, now: float) -> float:
        """Seconds that a refusal takes at a time."""
        count, since = self._recent.get(caller, (0.0, now))
        count = 1 + count * math.exp((since - now) / MEMORY_SECONDS)
        self._recent[caller] = count, now
        self._recent.move_to_end(caller)
        if len(self._recent) > MAX_REMEMBERED:
            self._recent.popitem(last=False)
        return min(LONGEST_SECONDS, (count - 1) / REFUSALS_PER_SECOND)
