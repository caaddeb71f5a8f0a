"""The front process of a server: it listens, counts and dispatches, and never fine-tunes."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from common.wire.description import Description
from server.crew import Crew, QueueLimits
from server.deployment import MODEL_FILE
from server.endpoint import Endpoint
from server.metrics import Metrics
from server.service import OffloadService
from server.tally import Tally


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class FrontOptions:
    """How a server listens and how much it takes on.

    port          0 picks a free one
    workers       processes that fine-tune
    metrics_port  0 picks a free one; None serves no metrics
    """

    port: int = 0
    workers: int = field(default_factory=core_count)
    limits: QueueLimits = field(default_factory=QueueLimits)
    metrics_port: int | None = None


async def serve_front(
    folder: Path,
    description: Description,
    tally: Tally,
    options: FrontOptions,
    *,
    listening: Callable[[int, int | None], None],
) -> None:
    """Serve a folder (server.serving) until SIGTERM or SIGINT, then drain.

    `listening` is told both ports once calls are answered. Raises InputError for a port that
    is taken, VicinalError when no worker can be started. No process is left behind.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    metrics = Metrics(description)
    crew = Crew(folder, workers=options.workers, limits=options.limits)
    metrics.watch(crew)
    service = OffloadService(description, folder / MODEL_FILE, tally, crew, metrics)
    endpoint = Endpoint(service, port=options.port)
    with ExitStack() as stack:
        metrics_port = None
        if options.metrics_port is not None:
            metrics_port = stack.enter_context(metrics.served(options.metrics_port))
        async with crew, endpoint:
            listening(endpoint.port, metrics_port)
            await stopped.wait()
