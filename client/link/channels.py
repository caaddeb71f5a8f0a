"""The servers that a device may ask: one, or several that are one service, in turns.

Whoever does not answer is left out for a while, and the call goes to the next at once: a device
waits only when nobody answers.
"""

import random
import time
from typing import Any, Final, final

from client.link.channel import Access, Channel
from common.errors import InputError
from common.wire.offload_pb2_grpc import OffloadStub
from common.wire.service import MAX_ANSWER_BYTES

MAX_SERVERS: Final = 64
# For which a server that did not answer is left out, while there are others.
AWAY_SECONDS: Final = 2.0
LEAST_SECONDS: Final = 1.0


@final
class Channels:
    """A channel to each server of `HOST:PORT,HOST:PORT,…`; not shared between threads.

    address  of all, in order: what a device keeps of a service is under this name

    Raises InputError as Channel does.
    """

    def __init__(self, address: str, access: Access, *, largest: int = MAX_ANSWER_BYTES) -> None:
        each = sorted({one.strip() for one in address.split(",")})
        if len(each) > MAX_SERVERS:
            raise InputError(f"{len(each)} servers: name {MAX_SERVERS} at most")
        self.address = ",".join(each)
        self._channels = [Channel(one, access, largest=largest) for one in each]
        self._stubs: list[Any] = [OffloadStub(one.grpc) for one in self._channels]
        # Devices begin at different servers.
        self._last = random.randrange(len(each))
        self._away = [0.0] * len(each)
        self.metadata = self._channels[0].metadata

    def turn(self) -> Any:
        """The stub of whoever is asked next."""
        count, now = len(self._stubs), time.monotonic()
        order = [(self._last + 1 + place) % count for place in range(count)]
        there = [one for one in order if self._away[one] <= now]
        # Of those who are all away, the one who has been so longest.
        self._last = there[0] if there else min(order, key=lambda one: self._away[one])
        return self._stubs[self._last]

    def seconds(self, remaining: float) -> float:
        """How long the one whose turn it is may take, so that there is time for another."""
        if not self._others():
            return remaining
        return min(remaining, max(LEAST_SECONDS, remaining / 2))

    def leave(self, seconds: float = AWAY_SECONDS) -> bool:
        """Leave out the one who was asked for so long; whether another can be asked at once."""
        others = self._others()
        self._away[self._last] = time.monotonic() + seconds
        return others

    def refusal(self) -> str | None:
        """As Channel.refusal(), of the one who was asked."""
        return self._channels[self._last].refusal()

    def close(self) -> None:
        for one in self._channels:
            one.grpc.close()

    def _others(self) -> bool:
        now = time.monotonic()
        return any(until <= now for place, until in enumerate(self._away) if place != self._last)
