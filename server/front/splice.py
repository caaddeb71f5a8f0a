"""Both sides of one connection through the doorman, and what it may send.

A guest is the public side; what it sends is written to gRPC, and what gRPC answers to it. Each
side stops reading while the other is full. A guest of an address that sends more than it may
rests, but not one that sends less than its own part of that.
"""

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, cast, final

from server.trust.peers import peer_name

# What is read at a time at most; of a guest that sends too much, no more than it still may.
READ_BYTES: Final = 1 << 16
LEAST_READ_BYTES: Final = 512
# A guest that sends no more than this at a time is never made to wait for its neighbors.
LEAST_BURST: Final = 8192.0
# While its address sends too much, a new one has enough for a handshake and a call.
FIRST_BURST: Final = 2048.0
# So long waits a new one while its address sends too much.
LONGEST_WELCOME_SECONDS: Final = 0.5
# The system gives up a peer that takes no more bytes for so long.
STALLED_MILLISECONDS: Final = 20_000


@dataclass(eq=False)
class Bucket:
    """Bytes that may be sent now; below 0 is what was sent too much."""

    tokens: float
    since: float

    def spend(self, size: int, now: float, *, rate: float, most: float) -> None:
        self.tokens = min(most, self.tokens + (now - self.since) * rate) - size
        self.since = now


@dataclass(eq=False)
class Peer:
    """An address, what it may send, and its connections."""

    bucket: Bucket
    guests: "set[Guest]" = field(default_factory=set)


class Door(Protocol):
    """What lets guests in (server.front.doorman)."""

    peer_bytes: float
    burst: float
    greeting_seconds: float
    buffer: memoryview

    def admit(self, guest: "Guest", name: str) -> Peer | None: ...
    def forget(self, guest: "Guest", name: str) -> None: ...
    def connect(self, guest: "Guest", name: str) -> None: ...
    def refused(self, reason: str) -> None: ...
    def hold_back(self, transport: asyncio.Transport) -> None: ...


@final
class Guest(asyncio.BufferedProtocol):
    """The public side of a connection.

    greeted  whether anything has come; `last` is when, on the loop's clock
    """

    transport: asyncio.Transport

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._name = ""
        self._peer: Peer | None = None
        self._greeting: asyncio.TimerHandle | None = None
        self._held: set[str] = set()
        self._first = b""
        self._inner: asyncio.Transport | None = None
        self.greeted = False
        self.last = self._loop.time()
        self._bucket = Bucket(LEAST_BURST, self.last)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by class.
        self.transport = transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        if name is not None:  # None: it has left
            self._name = peer_name(name[0])
            self._peer = self._door.admit(self, self._name)
        if self._peer is None:
            self._door.hold_back(transport)
            return
        _give_up_when_stalled(transport)
        rest = -self._peer.bucket.tokens / self._door.peer_bytes
        self._greeting = self._loop.call_later(
            self._door.greeting_seconds + LONGEST_WELCOME_SECONDS, self._silent
        )
        if rest > 0:
            self._bucket.tokens = FIRST_BURST
            self._rest(min(rest, LONGEST_WELCOME_SECONDS))

    def get_buffer(self, _sizehint: int) -> memoryview:
        peer = self._peer
        if peer is None or peer.bucket.tokens > 0:
            return self._door.buffer
        return self._door.buffer[: max(LEAST_READ_BYTES, int(self._bucket.tokens))]

    def buffer_updated(self, size: int) -> None:
        if self._peer is None:
            return
        # Of everybody's buffer, which the next read fills.
        data = bytes(self._door.buffer[:size])
        self._spend(size, self._peer)
        if self._inner is not None:
            self._inner.write(data)
            return
        self._first += data
        if not self.greeted:
            self.greeted = True
            assert self._greeting is not None
            self._greeting.cancel()
            self.hold("opening")
            self._door.connect(self, self._name)

    def _spend(self, size: int, peer: Peer) -> None:
        self.last = now = self._loop.time()
        rate, burst, guests = self._door.peer_bytes, self._door.burst, len(peer.guests)
        peer.bucket.spend(size, now, rate=rate, most=burst)
        self._bucket.spend(size, now, rate=rate / guests, most=max(LEAST_BURST, burst / guests))
        if peer.bucket.tokens < 0 and self._bucket.tokens < 0:
            self._rest(-self._bucket.tokens * guests / rate)

    def _rest(self, seconds: float) -> None:
        self._door.refused("bytes")
        self.hold("bytes")
        self._loop.call_later(seconds, self.release, "bytes")

    def _silent(self) -> None:
        self._door.refused("silent")
        self.leave()

    def opened(self, inner: asyncio.Transport) -> None:
        """GRPC has taken the connection."""
        self._inner = inner
        if self._peer is None:
            inner.abort()
            return
        inner.write(self._first)
        self._first = b""
        self.release("opening")

    def hold(self, why: str) -> None:
        """Read no more until every reason is gone."""
        if not self._held and not self.transport.is_closing():
            self.transport.pause_reading()
        self._held.add(why)

    def release(self, why: str) -> None:
        if why in self._held:
            self._held.discard(why)
            if not self._held and not self.transport.is_closing():
                self.transport.resume_reading()

    def give_way(self) -> None:
        """End a connection that has not spoken yet, to let another in."""
        self._forgotten()
        self._door.hold_back(self.transport)

    def leave(self) -> None:
        """End the connection at once."""
        self._forgotten()
        self.transport.abort()

    def pause_writing(self) -> None:
        if self._inner is not None and not self._inner.is_closing():
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        if self._inner is not None and not self._inner.is_closing():
            self._inner.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._forgotten()
        if self._inner is not None:
            self._inner.close()

    def _forgotten(self) -> None:
        if self._greeting is not None:
            self._greeting.cancel()
        if self._peer is not None:
            self._peer = None
            self._door.forget(self, self._name)


@final
class Inner(asyncio.Protocol):
    """The side of a connection on which gRPC answers."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._guest.opened(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._guest.transport.write(data)

    def pause_writing(self) -> None:
        self._guest.hold("full")

    def resume_writing(self) -> None:
        self._guest.release("full")

    def connection_lost(self, _error: Exception | None) -> None:
        # What gRPC has said last still goes out.
        self._guest.transport.close()


def _give_up_when_stalled(transport: asyncio.Transport) -> None:
    opened = transport.get_extra_info("socket")
    if opened is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with suppress(OSError):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MILLISECONDS)
