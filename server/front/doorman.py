"""Who may come in: the public port, and every connection's bytes on their way to gRPC.

gRPC can neither limit connections by address nor see what a stream that was reset at once has
cost. The doorman owns the port and splices bytes, TLS unopened, to gRPC's own listener, a unix
socket in a folder of mode 0700. The name that its side of each connection is bound to tells gRPC
who the peer is (server.trust.peers).
"""

import asyncio
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from common.errors import InputError
from server.front.splice import READ_BYTES, Bucket, Guest, Inner, Peer

BACKLOG: Final = 4096
# What a connection costs beside its bytes: handshakes.
CONNECTION_BYTES: Final = 1024
BURST_SECONDS: Final = 2.0
BUSY_PAUSE_SECONDS: Final = 0.01
# Before one who was turned away learns it: who comes again at once comes less often.
HOLD_BACK_SECONDS: Final = 2.0


@dataclass(frozen=True)
class DoorLimits:
    """What one address may take, of what there is for all.

    connections       open at a time; when they are all taken, the address that has the most
                      loses the one that was silent longest to a newcomer
    peer_connections  the same, of one address
    peer_bytes        a second, from one address to the server; 2 s worth of it may come at once
    greeting_seconds  within which a connection has to send its first bytes
    """

    connections: int = 4096
    peer_connections: int = 1024
    peer_bytes: float = 1 << 17
    greeting_seconds: float = 5.0

    @classmethod
    def of(cls, connections: int, peer_bytes: float) -> "DoorLimits":
        """An address may have a quarter of all connections."""
        return cls(connections, max(1, connections // 4), peer_bytes)


@final
class Doorman:
    """Has its port from construction and listens from `open` to `close`, in one event loop.

    path     where gRPC has to listen
    refused  is told why a connection was turned away or made to rest

    Raises InputError for a port that cannot be had.
    """

    def __init__(
        self, host: str, port: int, limits: DoorLimits, refused: Callable[[str], None]
    ) -> None:
        self._limits = limits
        self._sockets = bound_sockets(host, port)
        self.port: int = self._sockets[0].getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="vicinal-"))
        self.path = self._folder / "grpc"
        self.refused = refused
        self.peer_bytes = limits.peer_bytes
        self.burst = BURST_SECONDS * limits.peer_bytes
        self.greeting_seconds = limits.greeting_seconds
        self.buffer = memoryview(bytearray(READ_BYTES))
        self._peers: dict[str, Peer] = {}
        self._count = self._number = self._held_back = 0
        self._servers: list[asyncio.Server] = []
        self._opening: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            server = await loop.create_server(lambda: Guest(self), sock=one, backlog=BACKLOG)
            self._servers.append(server)

    def close(self) -> None:
        """Let nobody in any more."""
        for server in self._servers:
            server.close()
        for one in self._sockets:
            one.close()

    async def end(self, seconds: float = 1.0) -> None:
        """Let what gRPC has said go out, for so long; then nothing is left."""
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._count:
                    await asyncio.sleep(BUSY_PAUSE_SECONDS)
        for guest in [one for peer in self._peers.values() for one in peer.guests]:
            guest.leave()
        for task in self._opening:
            task.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    def admit(self, guest: Guest, name: str) -> Peer | None:
        """The guest's address, with the guest in it; None for one who cannot come in."""
        now = guest.last
        peer = self._peers.get(name) or Peer(Bucket(self.burst, now))
        if len(peer.guests) >= self._limits.peer_connections:
            self.refused("connections_peer")
            # One who may greet is worth more than one who has not yet.
            if not _send_away(peer, mute=True):
                return None
        elif self._count >= self._limits.connections:
            self.refused("connections")
            most = max(self._peers.values(), key=lambda one: len(one.guests))
            if len(most.guests) <= len(peer.guests) + 1 or not _send_away(most, mute=False):
                return None
        self._peers[name] = peer
        peer.guests.add(guest)
        self._count += 1
        peer.bucket.spend(CONNECTION_BYTES, now, rate=self.peer_bytes, most=self.burst)
        return peer

    def hold_back(self, transport: asyncio.Transport) -> None:
        """End a connection that was turned away, in a moment; at once when there are too many."""
        if self._held_back >= self._limits.connections:
            transport.abort()
            return
        self._held_back += 1
        transport.pause_reading()
        asyncio.get_running_loop().call_later(HOLD_BACK_SECONDS, self._turned_away, transport)

    def _turned_away(self, transport: asyncio.Transport) -> None:
        self._held_back -= 1
        transport.abort()

    def forget(self, guest: Guest, name: str) -> None:
        peer = self._peers[name]
        peer.guests.discard(guest)
        self._count -= 1
        if not peer.guests:
            # What it has sent is remembered until it would be forgiven anyway.
            rest = (self.burst - peer.bucket.tokens) / self.peer_bytes
            asyncio.get_running_loop().call_later(max(0.0, rest), self._drop, name, peer)

    def _drop(self, name: str, peer: Peer) -> None:
        if not peer.guests and self._peers.get(name) is peer:
            del self._peers[name]

    def connect(self, guest: Guest, name: str) -> None:
        task = asyncio.create_task(self._connect(guest, name))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, guest: Guest, name: str) -> None:
        self._number += 1
        own = self._folder / f"{self._number}-{name}"
        inner = socket.socket(socket.AF_UNIX)
        try:
            inner.setblocking(False)
            inner.bind(str(own))
            own.unlink()
            while True:
                try:
                    inner.connect(str(self.path))
                    break
                except BlockingIOError:  # gRPC has not taken those before it
                    await asyncio.sleep(BUSY_PAUSE_SECONDS)
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: Inner(guest), sock=inner)
        except BaseException as error:
            inner.close()
            guest.leave()
            if not isinstance(error, OSError):
                raise


def _send_away(peer: Peer, *, mute: bool) -> bool:
    """End the connection that was silent longest; with `mute` only one that never spoke."""
    last = min(peer.guests, key=lambda one: (one.greeted, one.last), default=None)
    if last is None or (mute and last.greeted):
        return False
    if mute:
        last.give_way()
    else:
        last.leave()
    return True


def require_free_port(host: str, port: int, option: str = "--port") -> None:
    """Raises InputError now for a port that cannot be had, and not after an hour of training."""
    for one in bound_sockets(host, port, option):
        one.close()


def bound_sockets(host: str, port: int, option: str = "--port") -> list[socket.socket]:
    """A socket for each address of a host, all on one port.

    Raises InputError, which names the option to change, for a port that cannot be had.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((one[0], one[4]) for one in found):
            opened = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
            opened.bind((address[0], port, *address[2:]))
            # A second server on the port has to fail now, not when it begins to answer.
            opened.listen(BACKLOG)
            opened.setblocking(False)
            port = opened.getsockname()[1]
    except BaseException as error:
        for one in sockets:
            one.close()
        if isinstance(error, OSError):
            raise InputError(
                f"port {port} on {host} is in use or not allowed: "
                f"choose another {option}, or 0 for any free one"
            ) from None
        raise
    return sockets
