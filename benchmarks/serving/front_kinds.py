"""What a front's work costs, by event loop and kind of gRPC server: processor time of its process.

`python -m benchmarks.serving.front_kinds` prints a section. One part is a refused call: kinds of
servers run in turn, each in a process of its own, and the load generator's own calls ask them. The
other is what passes between a front and a worker for one request. Ratios count, not times.
"""

import asyncio
import resource
import select
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import IO, Any, Final

import grpc
import uvloop

from benchmarks.report import Section, run, table
from common.processes import module_command
from server.workers.frames import (
    Status,
    WorkerResult,
    read_request,
    read_result,
    write_request,
    write_result,
)
from sims.load.http2 import Calls

KINDS: Final = ("grpc.aio on asyncio", "grpc.aio on uvloop", "threads")
SERVICE, METHOD = "vicinal.benchmarks", "Refuse"
# As the front says it.
TEXT, TRAILING = "saturated, 64 requests wait: try again in 50 ms", (("pause", "50"),)
UNDER_WAY: Final = 16
THREADS: Final = 4
# About what a recommendation is asked with, and answered.
REQUEST_BYTES, REPLY_BYTES = 80, 150
Handlers = tuple[Any, ...]


def handlers(refuse: Any) -> Handlers:
    """Of one method that takes and gives raw bytes."""
    method = grpc.unary_unary_rpc_method_handler(refuse)
    return (grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),)


async def serve_aio() -> None:
    async def refuse(_request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, TEXT, TRAILING)

    server = grpc.aio.server(handlers=handlers(refuse))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.to_thread(report, port)


def serve_threads() -> None:
    def refuse(_request: bytes, context: Any) -> None:
        context.set_trailing_metadata(TRAILING)
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, TEXT)

    server = grpc.server(ThreadPoolExecutor(THREADS), handlers=handlers(refuse))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    report(port)


def report(port: int) -> None:
    """Say the port, and for each line of stdin the processor time so far; until it ends."""
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        sys.stdout.write(f"{used.ru_utime + used.ru_stime}\n")
        sys.stdout.flush()


class Started:
    """A server process, and a connection to it."""

    def __init__(self, kind: str) -> None:
        self.process = subprocess.Popen(
            module_command("benchmarks.serving.front_kinds", "--serve", kind),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._to: IO[str] = self.process.stdin
        self._from: IO[str] = self.process.stdout
        address = f"127.0.0.1:{int(self._from.readline())}"
        self._calls = Calls(address, f"/{SERVICE}/{METHOD}", timeout_seconds=60)

    def processor_seconds(self) -> float:
        self._to.write("\n")
        self._to.flush()
        return float(self._from.readline())

    def cost(self, count: int) -> float:
        """Seconds of processor time a call."""
        before = self.processor_seconds()
        asked = ended = 0
        while ended < count:
            while asked < count and self._calls.under_way < UNDER_WAY:
                self._calls.ask(asked, b"")
                asked += 1
            unsent = [self._calls.socket] if self._calls.flush() else []
            if select.select([self._calls.socket], unsent, [])[0]:
                ended += sum(1 for _ in self._calls.receive())
        return (self.processor_seconds() - before) / count

    def end(self) -> None:
        self._calls.close()
        self._to.close()
        self.process.wait()


def answer(descriptor: int) -> None:
    """A worker without work."""
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rb") as stream:
        while read_request(stream) is not None:
            write_result(connection, WorkerResult(Status.ANSWERED, bytes(REPLY_BYTES)))


async def exchanges(count: int) -> float:
    """Seconds of processor time that a request to a worker and its answer take."""
    ours, theirs = socket.socketpair()
    with theirs:
        worker = subprocess.Popen(
            module_command("benchmarks.serving.front_kinds", "--answer", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
        )
    reader, writer = await asyncio.open_connection(sock=ours)

    async def exchange() -> None:
        write_request(writer, "Recommend", bytes(REQUEST_BYTES))
        await read_result(reader)

    await exchange()
    before = time.process_time()
    for _ in range(count):
        # In a task, as the crew does.
        await asyncio.create_task(exchange())
    spent = time.process_time() - before
    writer.close()
    await writer.wait_closed()
    worker.wait()
    return spent / count


def refusals(rounds: int, count: int) -> dict[str, list[float]]:
    servers = {kind: Started(kind) for kind in KINDS}
    for server in servers.values():
        server.cost(count)
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, server in servers.items():
            costs[kind].append(server.cost(count))
    for server in servers.values():
        server.end()
    return costs


def kinds_section(short: bool) -> Section:
    rounds, count = (2, 100) if short else (40, 500)
    refused = refusals(rounds, count)
    exchanged: dict[str, list[float]] = {"asyncio": [], "uvloop": []}
    for _ in range(rounds // 4 + 1):
        exchanged["asyncio"].append(asyncio.run(exchanges(count)))
        exchanged["uvloop"].append(uvloop.run(exchanges(count)))
    text = [
        "## Kinds of front",
        "",
        f"Processor time of a front's process, medians of rounds of {count} in turn. A call that "
        f"is refused, {rounds} rounds:",
        "",
        _compared(refused),
        "",
        f"A request to a worker process and its answer, {len(exchanged['asyncio'])} rounds:",
        "",
        _compared(exchanged),
    ]
    return Section("\n".join(text), {"refused": refused, "exchanged": exchanged})


def _compared(costs: dict[str, list[float]]) -> str:
    first = next(iter(costs.values()))
    ratios = {
        kind: median(one / other for one, other in zip(own, first, strict=True))
        for kind, own in costs.items()
    }
    rows = [[kind, f"{1e6 * median(costs[kind]):.0f}", f"{ratios[kind]:.2f}"] for kind in costs]
    return table(("kind", "µs", "÷ first"), rows)


def serve(kind: str) -> None:
    if kind == KINDS[2]:
        serve_threads()
    elif kind == KINDS[1]:
        uvloop.run(serve_aio())
    else:
        asyncio.run(serve_aio())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] == ["--answer"]:
        answer(int(sys.argv[2]))
    else:
        run(kinds_section)
