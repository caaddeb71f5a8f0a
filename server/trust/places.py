"""How many calls may be under way: in all, of one address, of one token."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

# What all places are divided by: an address gets a 32nd of them, a token a 64th. A call takes
# some 100 KiB while it is under way: 128 of them are what one address may cost.
PEERS: Final = 32
TOKENS: Final = 64
# The last places are for callers who have none.
RESERVE: Final = 8
# A request whose beginning is there and whose end is not holds no place. Those that have been so
# for longer than a busy loop takes to look at the rest of them are dropped while there are many:
# how many come at a time is limited by what an address may send.
MAX_ARRIVING: Final = 64
CROWDED_ARRIVAL_SECONDS: Final = 1.0
ARRIVAL_SECONDS: Final = 10.0


@dataclass(frozen=True)
class CallLimits:
    """Calls that are under way at a time.

    total  of everybody; the last eighth of them is kept for callers who have none under way
    peer   of one address; without a valid token it gets half of them where tokens are asked for
    token  of all tokens for the same users
    """

    total: int
    peer: int
    token: int

    @classmethod
    def of(cls, total: int, peer: int | None = None, token: int | None = None) -> "CallLimits":
        """Parts of the total where nothing else is said."""
        return cls(
            total,
            peer or max(min(8, total), total // PEERS),
            token or max(min(4, total), total // TOKENS),
        )


class CrowdedError(Exception):
    """There is no place for a call; `reason` says what has no more."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@final
class Places:
    """Calls under way, counted for each caller who has any."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._held: Counter[Hashable] = Counter()
        self.count = 0

    @contextmanager
    def taken(self, peer: str, token: Hashable, *, halved: bool = False) -> Iterator[None]:
        """A place while the block runs. Raises CrowdedError.

        token   None for a call without a valid one
        halved  whether such calls leave half of an address's places to tokens
        """
        caller = ("peer", peer) if token is None else ("token", token)
        limits = self._limits
        if token is None:
            most = limits.peer // 2 if halved else limits.peer
            if self._held[caller] >= max(1, most):
                raise CrowdedError("calls_peer")
        elif self._held[caller] >= limits.token:
            raise CrowdedError("calls_token")
        address = ("address", peer)
        if self._held[address] >= limits.peer:
            raise CrowdedError("calls_peer")
        kept = limits.total // RESERVE if self._held[caller] else 0
        if self.count >= limits.total - kept:
            raise CrowdedError("calls")
        self.count += 1
        self._held.update((caller, address))
        try:
            yield
        finally:
            self.count -= 1
            for one in (caller, address):
                self._held[one] -= 1
                if not self._held[one]:
                    del self._held[one]


@final
class Arrivals:
    """Calls whose request is not whole yet. Nobody knows their address before it is."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[asyncio.Task[object], float] = OrderedDict()

    def begin(self, task: "asyncio.Task[object]") -> int:
        """Count a call's task; how many others were dropped for it."""
        now = asyncio.get_running_loop().time()
        self._tasks[task] = now
        task.add_done_callback(self.end)
        dropped = 0
        while self._tasks:
            oldest, begun = next(iter(self._tasks.items()))
            crowded = len(self._tasks) > MAX_ARRIVING
            if now - begun < (CROWDED_ARRIVAL_SECONDS if crowded else ARRIVAL_SECONDS):
                break
            del self._tasks[oldest]
            oldest.cancel()
            dropped += 1
        return dropped

    def end(self, task: "asyncio.Task[object]") -> None:
        self._tasks.pop(task, None)
