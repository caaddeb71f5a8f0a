"""The gateway's process: a doorman, uvicorn behind it, and a channel to the server."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import grpc
import uvicorn

from common.addresses import is_loopback
from common.errors import InputError, VicinalError
from server.front.doorman import DoorLimits, Doorman
from server.gateway.app import application
from server.gateway.connections import Connection
from server.gateway.live import Live
from server.gateway.names import NameBook
from server.gateway.problems import Problem
from server.gateway.shield import MAX_HEAD_BYTES, Application, Limits, Shield
from server.gateway.upstream import Upstream
from server.trust.places import CallLimits

KEEP_ALIVE_SECONDS: Final = 15
GRACE_SECONDS: Final = 30
PROBE_SECONDS: Final = 60.0
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_TEXT: Final = (
    "other machines reach the gateway, and the server asks for no tokens: it would give anybody's "
    "recommendations to anybody; start `vicinal serve` with --token-secret, or leave out --host"
)
BOOK_TEXT: Final = (
    "the server gives out a book and recommends nothing itself: `vicinal device` answers from it; "
    "start `vicinal serve` with --release rows for a gateway"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatewayOptions:
    """Where the gateway listens, and how much it takes on.

    port          0 picks a free one
    tls           certificate and key; None: no encryption, on this machine's own addresses alone
    ids           what users and items are called (common.ids); None: their indices
    origins       of pages of other sites that may read answers
    connections   open at a time
    calls         requests under way at a time
    peer_bytes    a second, from one address
    call_seconds  that a request may take
    metrics       the port of the server's metrics on this machine; None: no load is shown
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: tuple[Path, Path] | None = None
    ids: Path | None = None
    origins: tuple[str, ...] = ()
    connections: int = 1024
    calls: CallLimits = field(default_factory=lambda: CallLimits.of(128))
    peer_bytes: float = 1 << 17
    call_seconds: float = 60.0
    metrics: int | None = None


@final
class _Server(uvicorn.Server):
    """Ends when it is told to; signals are heard by whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_gateway(
    options: GatewayOptions,
    channel: Callable[[], grpc.aio.Channel],
    *,
    listening: Callable[[int], None],
) -> None:
    """Answer until SIGTERM or SIGINT, then let requests under way finish.

    channel  to the server, made in this loop

    `listening` is told the port once requests are answered. Raises InputError for a port that is
    taken, a map that does not fit, a server that recommends nothing and one that would be open to
    everybody; VicinalError when there is no server.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    door = DoorLimits.of(options.connections, options.peer_bytes)
    doorman = Doorman(options.host, options.port, door, lambda _reason: None)
    try:
        async with channel() as opened:
            upstream = Upstream(opened, NameBook(options.ids), seconds=options.call_seconds)
            await upstream.first()
            if (await upstream.current()).description.book is not None:
                raise InputError(BOOK_TEXT)
            public = not is_loopback(options.host)
            if public:
                await _require_tokens(upstream)
            live = Live(upstream, options.metrics)
            app = application(upstream, live, options.origins)
            server = _Server(_config(options, app, doorman.path, public=public))
            running = asyncio.create_task(server.serve())
            tasks = [asyncio.create_task(each) for each in (upstream.kept_fresh(), live.kept())]
            if public:
                tasks.append(asyncio.create_task(_probed(upstream, stopped)))
            while not server.started and not running.done():
                await asyncio.sleep(0.01)
            await doorman.open()
            listening(doorman.port)
            waiting = asyncio.create_task(stopped.wait())
            await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
            doorman.close()
            server.should_exit = True
            await running
            for task in (*tasks, waiting):
                task.cancel()
            await asyncio.gather(*tasks, waiting, return_exceptions=True)
            for task in tasks:
                if not task.cancelled() and isinstance(error := task.exception(), VicinalError):
                    raise error
    finally:
        await doorman.end()


def _config(
    options: GatewayOptions, app: Application, path: Path, *, public: bool
) -> uvicorn.Config:
    # uvicorn says every request that is none in the log: anybody could fill it.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    hosts = None if public else LOOPBACK_NAMES | {options.host}
    limits = Limits(options.calls, options.call_seconds + 1.0, hosts)
    certificate, key = options.tls or (None, None)
    return uvicorn.Config(
        Shield(app, limits),
        uds=str(path),
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


async def _require_tokens(upstream: Upstream) -> None:
    """Raises InputError for a server that answers anybody."""
    if not await upstream.asks_for_tokens():
        raise InputError(OPEN_TEXT)


async def _probed(upstream: Upstream, stopped: asyncio.Event) -> None:
    """Look again and again, since a server may be started anew; end all when it is open."""
    while True:
        await asyncio.sleep(PROBE_SECONDS)
        with suppress(Problem):
            try:
                await _require_tokens(upstream)
            except InputError:
                stopped.set()
                raise
