"""The front process of a server: it listens, counts and dispatches, and never fine-tunes."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from grpc_health.v1.health_pb2 import HealthCheckResponse

from common.addresses import is_loopback
from common.processes import core_count
from server.cluster.member import Member, Membership
from server.front.endpoint import Endpoint, Listening
from server.front.parsing import Parsing
from server.front.rotation import Retraining, Rotation
from server.front.service import OffloadService
from server.metrics import Metrics
from server.reports.tally import Tally
from server.trust.guard import Guard
from server.trust.receipts import Receipts
from server.versions.catalog import GRACE_SECONDS, Catalog, Served
from server.workers.crew import Crew, QueueLimits


@dataclass(frozen=True)
class FrontOptions:
    """How a server listens and how much it takes on.

    port          0 picks a free one
    workers       processes that fine-tune
    metrics_port  0 picks a free one; None serves no metrics
    grace         seconds for which a version that was replaced is still answered for
    listening     on which address, with which encryption
    guard         who may ask, and how much
    receipt_key   of the receipts of answers; None: a new one each time
    compiled      whether workers fine-tune in compiled loops (server.recommending.compiled)
    """

    port: int = 0
    workers: int = field(default_factory=core_count)
    limits: QueueLimits = field(default_factory=QueueLimits)
    metrics_port: int | None = None
    grace: float = GRACE_SECONDS
    listening: Listening = field(default_factory=Listening)
    guard: Guard = field(default_factory=Guard)
    receipt_key: bytes | None = None
    compiled: bool = False


async def serve_front(
    folder: Path,
    tally: Tally,
    options: FrontOptions,
    *,
    retraining: Retraining | None = None,
    membership: Membership | None = None,
    listening: Callable[[int, int | None], None],
) -> None:
    """Serve a folder (server.versions.folder) until SIGTERM or SIGINT, then drain.

    retraining  how new versions come about; None: never
    membership  of servers that share versions; None: this one is alone

    `listening` is told both ports once calls are answered. Raises InputError for a port that
    is taken, VicinalError when no worker can be started. No process is left behind.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    versions = Catalog(folder, grace=options.grace)
    metrics = Metrics(versions.current.description)
    # Who has a book asks for nothing that takes arithmetic.
    workers = options.workers if versions.current.description.book is None else 0
    crew = Crew(folder, workers=workers, limits=options.limits, compiled=options.compiled)
    metrics.watch(crew)
    metrics.watch_tally(tally, versions.serves)
    metrics.watch_surveys(versions.surveys)
    receipts = Receipts(options.receipt_key, clock=tally.now)
    service = OffloadService(versions, tally, options.guard.limited(crew), metrics, receipts)
    loopback = is_loopback(options.listening.host)
    gate = options.guard.gate(versions.current.description, metrics, loopback=loopback)
    endpoint = Endpoint(
        service,
        port=options.port,
        listening=options.listening,
        gates=[gate, Parsing(metrics)],
        refused=metrics.refused,
    )

    def published(served: Served) -> None:
        tally.limit(served.description.version, served.eligible, served.users)
        metrics.serves(served.description)
        gate.users = served.users
        # The loop's clock is coarser than the catalog's: not a moment too early.
        asyncio.get_running_loop().call_later(options.grace + 1.0, versions.expire)

    def kept(served: Served) -> None:
        tally.limit(served.description.version, served.eligible, served.users)

    member = None
    if membership is not None:
        member = Member(
            membership, versions, published, kept, grace=options.grace, told=metrics.shares
        )

    with ExitStack() as stack:
        metrics_port = None
        if options.metrics_port is not None:
            metrics_port = stack.enter_context(metrics.served(options.metrics_port))
        async with AsyncExitStack() as running:
            await running.enter_async_context(crew)
            await running.enter_async_context(endpoint)
            await running.enter_async_context(_running(tell_health(crew, endpoint)))
            if retraining is not None:
                how = metrics.brought_up_to_date
                rotation = Rotation(versions, retraining, published, how, member)
                await running.enter_async_context(_running(rotation.run()))
            if member is not None:
                await running.enter_async_context(_running(member.run()))
            # Let tasks begin: a signal that comes once it is told finds its handler.
            await asyncio.sleep(0)
            listening(endpoint.port, metrics_port)
            # What is there now stays: the garbage collector need not look at it while it holds
            # calls up.
            gc.collect()
            gc.freeze()
            await stopped.wait()


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """A task while the block runs; it is canceled and gone afterwards."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def tell_health(crew: Crew, endpoint: Endpoint) -> None:
    """Let the health service say NOT_SERVING while no worker is alive."""
    while True:
        await crew.none_alive.wait()
        await endpoint.tell(HealthCheckResponse.NOT_SERVING)
        await crew.some_alive.wait()
        await endpoint.tell(HealthCheckResponse.SERVING)
