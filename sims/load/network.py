"""A network in software: a TCP proxy that delays, throttles, loses, stalls and cuts.

    with Network("3g", "127.0.0.1:50551") as network:
        Connection(network.address)

    python -m sims.load.network 3g 127.0.0.1:50551      the same as a process; prints its address

What is modelled, for both directions apart: half the round-trip time for every byte; a rate, shared
by all connections, as a device has one radio; and a share of lost segments of 1460 bytes. TCP
hides loss, so a lost segment is late by one retransmission, a round trip and 10 ms, and all that
comes after it in its connection waits for it. Opening a connection costs a round trip. Not
modelled: slow start and congestion control, so that large transfers on long paths are faster here
than outside; jitter; and loss of acknowledgements.
"""

import asyncio
import random
import socket
import struct
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Annotated, Any, Final, Self, TypeVar, final

import typer

from common.errors import InputError, VicinalError
from common.names import unknown

SEGMENT_BYTES: Final = 1460
READ_BYTES: Final = 16 << 10
# Waiting on the way, in one connection and direction, before the sender is held up.
BUFFER_BYTES: Final = 128 << 10
RETRANSMISSION_SECONDS: Final = 0.01

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkConditions:
    """Round trip, rates and loss of a network between a device and a server.

    round_trip  seconds
    down, up    bits a second, to the device and from it
    loss        share of segments lost, each way
    """

    round_trip: float
    down: float
    up: float
    loss: float

    def __post_init__(self) -> None:
        if not (0 <= self.round_trip < 60 and 0 <= self.loss <= 0.5):
            raise InputError("network: a round trip of 0–60 s and a loss of 0–0.5 are possible")
        if self.down <= 0 or self.up <= 0:
            raise InputError("network: a rate must be above 0")


# Plain numbers of the kind that such networks have on an ordinary day.
NETWORKS: Final = {
    "loopback": NetworkConditions(0.0, float("inf"), float("inf"), 0.0),
    "wifi": NetworkConditions(0.005, 50e6, 20e6, 0.001),
    "4g": NetworkConditions(0.050, 20e6, 8e6, 0.002),
    "3g": NetworkConditions(0.150, 2e6, 0.75e6, 0.005),
    "lossy": NetworkConditions(0.100, 1e6, 1e6, 0.01),
}


def network_named(name: str) -> NetworkConditions:
    """Raises InputError for a name that there is not."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]


@final
class Link:
    """One direction of a network, as a timetable: when what is sent now arrives.

    delay  seconds; rate in bits a second; loss per segment
    """

    def __init__(self, delay: float, rate: float, loss: float, rng: random.Random) -> None:
        self._delay, self._rate, self._loss = delay, rate, loss
        self._rng = rng
        self._free = 0.0

    def arrival(self, now: float, size: int, after: float) -> float:
        """Seconds at which `size` bytes sent at `now` have arrived, and not before `after`."""
        self._free = max(self._free, now) + 8 * size / self._rate
        late = 0.0
        for _ in range(-(-size // SEGMENT_BYTES)):
            # A retransmission may be lost too.
            tries = 0
            while self._rng.random() < self._loss:
                tries += 1
            late = max(late, tries * (2 * self._delay + RETRANSMISSION_SECONDS))
        return max(self._free + self._delay + late, after)


@final
class Network:
    """A proxy to one server, in a thread of its own; a context manager.

    network  conditions or the name of some
    target   HOST:PORT of the server
    seed     of what is lost
    """

    def __init__(self, network: NetworkConditions | str, target: str, *, seed: int = 0) -> None:
        self.conditions = network_named(network) if isinstance(network, str) else network
        host, _, port = target.rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"{target[:80]!r} is no server: give HOST:PORT")
        self._target = host, int(port)
        half, rng = self.conditions.round_trip / 2, random.Random(seed)
        self._up = Link(half, self.conditions.up, self.conditions.loss, rng)
        self._down = Link(half, self.conditions.down, self.conditions.loss, rng)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    def stall(self) -> None:
        """Let nothing through, in either direction; connections stay open."""
        self._run(self._set_moving(moving=False))

    def resume(self) -> None:
        """Let through again what waits."""
        self._run(self._set_moving(moving=True))

    def cut(self) -> None:
        """Reset every open connection; new ones are taken."""
        self._run(self._cut())

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._server = self._run(self._listen())
        except OSError as error:
            self._end()
            raise VicinalError(f"network: cannot listen ({error.strerror})") from error
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    def __exit__(self, *_error: object) -> None:
        self._run(self._close())
        self._end()

    def _run(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        self._moving = asyncio.Event()
        self._moving.set()
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _set_moving(self, *, moving: bool) -> None:
        (self._moving.set if moving else self._moving.clear)()

    async def _cut(self) -> None:
        for writer in self._writers:
            _reset(writer)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, near: asyncio.StreamReader, device: asyncio.StreamWriter) -> None:
        """Connect one connection through, and carry both directions until either ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(device)
        try:
            # SYN and its answer; both may be lost and late.
            now = self._loop.time()
            there = self._up.arrival(now, 1, now)
            await asyncio.sleep(self._down.arrival(there, 1, there) - now)
            far, server = await asyncio.open_connection(*self._target)
            self._writers.add(server)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_carry(near, server, self._up, self._moving.wait))
                    group.create_task(_carry(far, device, self._down, self._moving.wait))
                device.close()
                server.close()
            finally:
                _reset(server)
                self._writers.discard(server)
        except* OSError:
            pass  # reset by either side, or no server: the other side is reset too
        finally:
            _reset(device)
            self._writers.discard(device)
            self._tasks.discard(task)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, with what it has buffered, unless it is being closed."""
    if not writer.is_closing():
        # Without lingering, the kernel sends a reset.
        endpoint = writer.get_extra_info("socket")
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def _carry(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    link: Link,
    moving: Callable[[], Coroutine[Any, Any, Any]],
) -> None:
    """Bytes of one direction, each at its time, then the end of the stream."""
    loop = asyncio.get_running_loop()
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    waiting, room = 0, asyncio.Event()

    async def depart() -> None:
        nonlocal waiting
        last = 0.0
        while True:
            data = await source.read(READ_BYTES)
            last = link.arrival(loop.time(), len(data), last)
            waiting += len(data)
            on_the_way.put_nowait((last, data))
            if not data:
                return
            while waiting >= BUFFER_BYTES:
                room.clear()
                await room.wait()

    async def arrive() -> None:
        nonlocal waiting
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(max(due - loop.time(), 0.0))
            await moving()
            if not data:
                break
            sink.write(data)
            await sink.drain()
            waiting -= len(data)
            room.set()
        with suppress(OSError):
            sink.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(depart())
        group.create_task(arrive())


def main(
    network: Annotated[str, typer.Argument(help=", ".join(NETWORKS))],
    target: Annotated[str, typer.Argument(help="HOST:PORT of the server.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is lost.")] = 0,
) -> None:
    """Run a network until it is interrupted or its standard input ends; prints its address."""
    try:
        with Network(network, target, seed=seed) as running:
            typer.echo(running.address)
            sys.stdin.read()
    except VicinalError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


if __name__ == "__main__":
    typer.run(main)
