"""What the doorman costs: `python -m benchmarks.serving.doorman` prints a section.

One process serves replies of a package's size on two ports: gRPC's own, and one behind a doorman.
One caller asks both in turn, a call at a time, in rounds that follow one another.
"""

import asyncio
import resource
import select
import subprocess
import sys
import time
from typing import Any, Final

import grpc
import numpy as np
import uvloop

from benchmarks.report import Section, run, table
from common.processes import module_command
from server.front.doorman import DoorLimits, Doorman
from sims.load.http2 import Calls

SERVICE, METHOD = "vicinal.benchmarks", "Package"
# About a package of preset vicinal, and of the slow ones.
REPLIES: Final = (2_000, 50_000)
WAYS: Final = ("gRPC alone", "behind the doorman")


async def serve(size: int) -> None:
    async def answer(_request: bytes, _context: Any) -> bytes:
        return bytes(size)

    method = grpc.unary_unary_rpc_method_handler(answer)
    handlers = (grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),)
    server = grpc.aio.server(handlers=handlers)
    alone = server.add_insecure_port("127.0.0.1:0")
    # Nothing rests: the work is what counts.
    doorman = Doorman("127.0.0.1", 0, DoorLimits(peer_bytes=1e9), lambda _reason: None)
    server.add_insecure_port(f"unix:{doorman.path}")
    await server.start()
    await doorman.open()
    sys.stdout.write(f"{alone} {doorman.port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(_report)
    await doorman.end(0)


def _report() -> None:
    """For each line of stdin the processor time so far; until it ends."""
    for _ in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        sys.stdout.write(f"{used.ru_utime + used.ru_stime}\n")
        sys.stdout.flush()


def measured(size: int, rounds: int, calls: int) -> list[tuple[list[float], float]]:
    """Of each way: seconds of every call, and processor seconds of the server a call."""
    process = subprocess.Popen(
        module_command("benchmarks.serving.doorman", "--serve", str(size)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    ports = process.stdout.readline().split()
    method = f"/{SERVICE}/{METHOD}"
    ways = [Calls(f"127.0.0.1:{port}", method, timeout_seconds=60) for port in ports]

    def spent() -> float:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    seconds: list[list[float]] = [[], []]
    processor = [0.0, 0.0]
    for count in range(rounds + 1):
        for place, way in enumerate(ways):
            before = spent()
            found = [_timed(way) for _ in range(calls)]
            if count:  # the first warms up
                processor[place] += spent() - before
                seconds[place] += found
    for way in ways:
        way.close()
    process.stdin.close()
    process.wait()
    return [(seconds[place], processor[place] / (rounds * calls)) for place in range(2)]


def _timed(calls: Calls) -> float:
    begun = time.perf_counter()
    calls.ask(0, bytes(80))
    while True:
        unsent = [calls.socket] if calls.flush() else []
        readable, _, _ = select.select([calls.socket], unsent, [])
        if readable and any(ended.status == 0 for ended in calls.receive()):
            return time.perf_counter() - begun


def section(short: bool) -> Section:
    rounds, calls = (4, 250) if short else (20, 500)
    rows, figures = [], {}
    for size in REPLIES:
        for way, (seconds, processor) in zip(WAYS, measured(size, rounds, calls), strict=True):
            p50, p99 = (1e6 * float(np.percentile(seconds, share)) for share in (50, 99))
            cells = [f"{size:,}", way, f"{p50:.0f}", f"{p99:.0f}", f"{1e6 * processor:.0f}"]
            rows.append(cells)
            figures[f"{size} {way}"] = [p50, p99, 1e6 * processor]
    heads = ("bytes of a reply", "way", "p50, µs", "p99, µs", "processor time a call, µs")
    text = (
        "## The doorman\n\n"
        "One connection, one call at a time, "
        f"{rounds * calls:,} calls each way in turn (`python -m benchmarks.serving.doorman`):\n\n"
        f"{table(heads, rows)}"
    )
    return Section(text, {"doorman": figures}, [])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        uvloop.run(serve(int(sys.argv[2])))
    else:
        run(section)
