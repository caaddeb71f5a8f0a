"""Requests that wait for a worker: one of each caller in turn, and few at a time.

A caller who asks for more than others waits behind its own requests, not they behind it.
"""

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, TypeVar, final

# Who makes the call that a task works on: a token's users, or an address.
CALLER: ContextVar[Hashable] = ContextVar("caller", default=None)
# What a caller took of the workers is forgotten with this time constant.
MEMORY_SECONDS: Final = 10.0
MAX_REMEMBERED: Final = 4096
# Who took so many times more than another caller is one that the other need not stand back for.
GREEDY: Final = 4.0

Turn = TypeVar("Turn")


@dataclass(frozen=True, eq=False)
class Waiting(Generic[Turn]):
    """A request in the queue: its turn has come when it is given a worker."""

    caller: Hashable
    seconds: float
    turn: "asyncio.Future[Turn]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@final
class FairQueue(Generic[Turn]):
    """Requests by caller, each caller's in order; callers take turns."""

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, deque[Waiting[Turn]]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def of(self, caller: Hashable) -> int:
        """How many of a caller's wait."""
        return len(self._lines.get(caller, ()))

    @property
    def callers(self) -> list[Hashable]:
        """Who has any that wait."""
        return list(self._lines)

    def append(self, waiting: Waiting[Turn]) -> None:
        self._lines.setdefault(waiting.caller, deque()).append(waiting)
        self._length += 1

    def popleft(self) -> Waiting[Turn]:
        """The next in turn; its caller's following one comes after everybody else's."""
        caller, line = next(iter(self._lines.items()))
        first = line.popleft()
        self._length -= 1
        self._lines.move_to_end(caller)
        if not line:
            del self._lines[caller]
        return first

    def remove(self, waiting: Waiting[Turn]) -> None:
        """Raises ValueError for one that does not wait."""
        line = self._lines.get(waiting.caller, deque())
        line.remove(waiting)
        self._length -= 1
        if not line:
            del self._lines[waiting.caller]

    def pushed_out(self, by: Hashable) -> Waiting[Turn] | None:
        """The last of whoever has most waiting, for one who would still have fewer; it is out."""
        most = max(self._lines.values(), key=len, default=None)
        if most is None or len(most) <= self.of(by) + 1:
            return None
        last = most[-1]
        self.remove(last)
        return last

    def seconds_before(self, caller: Hashable) -> float:
        """Work that comes before a new request of a caller."""
        place = self.of(caller) + 1
        return sum(one.seconds for line in self._lines.values() for one in islice(line, place))


@final
class Shares:
    """Seconds of workers that callers took lately.

    clock  seconds that never go back
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self.under_way: Counter[Hashable] = Counter()

    def recent(self, caller: Hashable) -> float:
        taken, since = self._taken.get(caller, (0.0, 0.0))
        return taken * math.exp((since - self._clock()) / MEMORY_SECONDS)

    def begin(self, caller: Hashable) -> None:
        self.under_way[caller] += 1

    def end(self, caller: Hashable, seconds: float) -> None:
        self.under_way[caller] -= 1
        if not self.under_way[caller]:
            del self.under_way[caller]
        self._taken[caller] = self.recent(caller) + seconds, self._clock()
        self._taken.move_to_end(caller)
        if len(self._taken) > MAX_REMEMBERED:
            self._taken.popitem(last=False)

    def greedy_beside(self, seconds: float, callers: list[Hashable]) -> bool:
        """Whether one of them took far more than one who took, with its next, `seconds`."""
        most = max(map(self.recent, {*self.under_way, *callers}), default=0.0)
        return most > GREEDY * seconds
