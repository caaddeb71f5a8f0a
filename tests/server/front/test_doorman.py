"""The doorman's rules, over real sockets from several loopback addresses."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import uvloop

from common.errors import InputError
from server.front.doorman import DoorLimits, Doorman, bound_sockets, require_free_port
from server.front.splice import Bucket
from server.trust.peers import peer_of

OTHER = "127.0.0.2"
THIRD = "127.0.0.3"

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="loopback of Linux")


class Echo(asyncio.Protocol):
    """Behind the door: says who came, then what was said."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        name = self.transport.get_extra_info("peername")
        said = peer_of(f"unix:{name}").encode() + b" "
        self.transport.write(said + data)  # type: ignore[attr-defined]


class Opened:
    """A doorman with an echo behind it."""

    def __init__(self, limits: DoorLimits) -> None:
        self.refused: Counter[str] = Counter()
        self.door = Doorman("127.0.0.1", 0, limits, lambda reason: self.refused.update([reason]))

    async def connect(
        self, source: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.door.port, local_addr=(source, 0))

    async def said(self, source: str, text: bytes = b"hello") -> bytes:
        """What comes back on a connection that is left open; nothing when it is ended."""
        reader, writer = await self.connect(source)
        self.kept.append(writer)
        writer.write(text)
        try:
            return await reader.read(100)
        except ConnectionError:
            return b""

    kept: list[asyncio.StreamWriter]


@asynccontextmanager
async def opened(limits: DoorLimits) -> AsyncIterator[Opened]:
    one = Opened(limits)
    one.kept = []
    inner = await asyncio.get_running_loop().create_unix_server(Echo, one.door.path)
    await one.door.open()
    try:
        yield one
    finally:
        for writer in one.kept:
            writer.close()
        await one.door.end(0.1)
        inner.close()
        assert not one.door.path.parent.exists()


def run(limits: DoorLimits, use: Callable[[Opened], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(60), opened(limits) as one:
            await use(one)

    uvloop.run(inside())


def test_what_is_behind_is_told_the_address() -> None:
    async def use(one: Opened) -> None:
        assert one.door.path.parent.stat().st_mode & 0o777 == 0o700
        assert await one.said("127.0.0.1") == b"127.0.0.1 hello"
        assert await one.said(OTHER) == b"127.0.0.2 hello"
        assert list(one.door.path.parent.iterdir()) == [one.door.path]

    run(DoorLimits(), use)


def test_all_bytes_arrive_in_order_also_when_one_side_is_slow() -> None:
    sent = bytes(range(256)) * (1 << 14)

    async def use(one: Opened) -> None:
        reader, writer = await one.connect()
        one.kept.append(writer)

        async def send() -> None:
            for at in range(0, len(sent), 1 << 16):
                writer.write(sent[at : at + (1 << 16)])
                await writer.drain()

        sending = asyncio.create_task(send())
        await asyncio.sleep(0.3)
        received = b""
        while len(received.replace(b"127.0.0.1 ", b"")) < len(sent):
            received += await reader.read(1 << 20)
        await sending
        assert received.replace(b"127.0.0.1 ", b"") == sent

    run(DoorLimits(peer_bytes=1e9), use)


def test_an_address_has_its_part_of_the_connections() -> None:
    async def use(one: Opened) -> None:
        answers = [await one.said(OTHER) for _ in range(5)]
        assert answers == [b"127.0.0.2 hello"] * 3 + [b""] * 2
        assert await one.said("127.0.0.1") == b"127.0.0.1 hello"
        assert one.refused["connections_peer"] == 2
        one.kept[0].close()
        # Until the doorman has seen it.
        while not (answer := await one.said(OTHER)):
            await asyncio.sleep(0.01)
        assert answer == b"127.0.0.2 hello"

    run(DoorLimits(peer_connections=3), use)


def test_who_greets_takes_the_place_of_one_who_has_not() -> None:
    async def use(one: Opened) -> None:
        mute = [await one.connect(OTHER) for _ in range(3)]
        one.kept += [writer for _, writer in mute]
        assert await one.said(OTHER) == b"127.0.0.2 hello"
        assert await mute[0][0].read(1) == b""

    run(DoorLimits(peer_connections=3), use)


def test_when_all_places_are_taken_the_largest_address_gives_one() -> None:
    async def use(one: Opened) -> None:
        first = await one.connect(OTHER)
        first[1].write(b"x")
        assert await first[0].read(100)
        one.kept.append(first[1])
        # The loop's clock counts milliseconds.
        await asyncio.sleep(0.05)
        for _ in range(3):
            assert await one.said(OTHER)
        assert await one.said("127.0.0.1") == b"127.0.0.1 hello"
        # It was silent longest.
        assert await first[0].read(1) == b""
        assert await one.said(THIRD) == b"127.0.0.3 hello"
        # Nobody has two more than a newcomer would have.
        assert await one.said(THIRD) == b""
        assert one.refused["connections"] == 3

    run(DoorLimits(connections=4), use)


def test_who_says_nothing_is_sent_away() -> None:
    async def use(one: Opened) -> None:
        reader, writer = await one.connect()
        one.kept.append(writer)
        assert await one.said("127.0.0.1") == b"127.0.0.1 hello"
        assert await reader.read(1) == b""
        assert one.refused["silent"] == 1

    run(DoorLimits(greeting_seconds=0.3), use)


def test_an_address_sends_its_part_of_the_bytes_and_its_neighbors_are_not_held_up() -> None:
    async def use(one: Opened) -> None:
        quiet = await one.connect(OTHER)
        one.kept.append(quiet[1])
        reader, writer = await one.connect(OTHER)
        one.kept.append(writer)
        passed = 0

        async def flood() -> None:
            while True:
                writer.write(bytes(1 << 14))
                await writer.drain()

        async def count() -> None:
            nonlocal passed
            while data := await reader.read(1 << 16):
                passed += len(data)

        tasks = [asyncio.create_task(flood()), asyncio.create_task(count())]
        begun = time.monotonic()
        await asyncio.sleep(2.0)
        # 2 s worth at once, then the rate, and what one read overdraws.
        before, took = passed, time.monotonic() - begun
        quiet[1].write(b"hello")
        assert await quiet[0].read(100) == b"127.0.0.2 hello"
        for task in tasks:
            task.cancel()
        assert before < (2.0 + took) * 65536 + (1 << 18)
        assert one.refused["bytes"] > 0

    run(DoorLimits(peer_bytes=65536), use)


def test_a_bucket_is_never_fuller_than_it_may_be() -> None:
    bucket = Bucket(10.0, 0.0)
    bucket.spend(4, 100.0, rate=1.0, most=12.0)
    assert bucket.tokens == 8.0
    bucket.spend(20, 101.0, rate=1.0, most=12.0)
    assert bucket.tokens == -11.0


@contextmanager
def bound(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    sockets = bound_sockets(host, port)
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


def test_a_host_of_several_addresses_has_one_port() -> None:
    with bound("127.0.0.1") as (only,):
        port = only.getsockname()[1]
        with pytest.raises(InputError, match="in use"):
            bound_sockets("127.0.0.1", port)
        with pytest.raises(InputError, match="choose another --metrics-port"):
            require_free_port("127.0.0.1", port, "--metrics-port")
    require_free_port("127.0.0.1", port)
    with bound("localhost") as several:
        assert len({one.getsockname()[1] for one in several}) == 1
    with pytest.raises(InputError):
        bound_sockets("no such host", 0)
