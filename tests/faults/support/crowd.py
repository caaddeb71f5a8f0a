"""A thousand devices in one process: each describes, fetches its package, answers and reports.

    python crowd.py [--devices 1000]

Every device has a connection of its own to one `vicinal serve` process, and all begin at once; the
model version is on their common disk. Answers are compared with the oracle's and reports with the
tally. Prints a Markdown table; the exit code is 1 when anything was not as it should be.
"""

import asyncio
import random
import resource
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import grpc
import typer

from client.answers import AnswerRecord
from client.device import answer
from client.link.connection import Connection, pushback, report_of
from client.link.replies import checked_package
from client.stores.ratings import LocalRatings, read_local_ratings
from client.stores.versions import VersionStore
from common.ranking import Counts
from common.threads import limit_threads
from common.versions.version import ModelVersion
from common.wire import offload_pb2 as wire
from common.wire.description import description_from_wire
from common.wire.offload_pb2_grpc import OffloadStub
from server.reports.reading import read_counts
from tests.faults.support.figures import Oracle, percentile
from tests.faults.support.served import ONE_ADDRESS, ServedProcess

PRESET: Final = "paper"
THREADS: Final = 2
# Of one device, from its beginning to the reply to its report.
DEADLINE_SECONDS: Final = 120.0
AGAIN: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
OPTIONS: Final = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


@dataclass
class Crowd:
    """What became of all devices; memory of the server's front in MiB."""

    seconds: list[float] = field(default_factory=list)
    whole: float = 0.0
    repeats: int = 0
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    reports: int = 0
    sums_agree: bool = False
    before: float = 0.0
    after: float = 0.0

    @property
    def good(self) -> bool:
        served = len(self.seconds) == self.reports > 0
        return served and self.sums_agree and not (self.errors or self.wrong)


@dataclass(frozen=True)
class Shared:
    """What devices have in common: an address, a version on the disk, a pool for arithmetic."""

    address: str
    version: ModelVersion
    local: LocalRatings
    pool: ThreadPoolExecutor
    crowd: Crowd


async def ask(shared: Shared, method: Callable[..., Awaitable[Any]], request: object) -> Any:
    """A call, repeated as a device does: after as long as a saturated server asks for."""
    pause = 0.1
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return await method(request, timeout=max(0.1, end - time.monotonic()))
        except grpc.RpcError as error:
            if error.code() not in AGAIN or time.monotonic() > end:
                raise
            wanted = max(pause, (pushback(error) or 0.0) * random.uniform(1.0, 1.5))
            shared.crowd.repeats += 1
            await asyncio.sleep(wanted)
            pause = min(2 * pause, 1.0)


async def device(shared: Shared, user: int) -> AnswerRecord:
    """One device's whole life."""
    begun = time.monotonic()
    async with grpc.aio.insecure_channel(shared.address, options=OPTIONS) as channel:
        stub = OffloadStub(channel)
        description = description_from_wire(
            await ask(shared, stub.Describe, wire.DescribeRequest())
        )
        assert description.version == shared.version.digest
        wanted = wire.PackageRequest(version=description.version, user=user, preset=PRESET)
        message = await ask(shared, stub.GetPackage, wanted)

        def computed() -> tuple[tuple[int, ...], Counts]:
            found = answer(
                shared.version,
                checked_package(message, description, PRESET, shared.local.own(user))[
                    0
                ].neighborhood,
                description.preset(PRESET),
                rated=shared.local.train.items_of(user),
                held_out=shared.local.held_out_of(user),
                watched=description.watched,
                list_length=description.list_length,
            )
            return tuple(found.items.tolist()), found.counts

        loop = asyncio.get_running_loop()
        items, counts = await loop.run_in_executor(shared.pool, computed)
        key = uuid.uuid4().hex
        report = report_of(description, PRESET, key, counts, [message.receipt])
        assert (await ask(shared, stub.Report, report)).counted
    seconds = time.monotonic() - begun
    return AnswerRecord(user, items, counts, description.version, seconds, 0.0, message.ByteSize())


async def all_devices(shared: Shared, count: int) -> list[AnswerRecord]:
    ended = await asyncio.gather(
        *(device(shared, user) for user in range(count)), return_exceptions=True
    )
    for one in ended:
        if isinstance(one, BaseException):
            shared.crowd.errors.append(f"{type(one).__name__}: {one}"[:300])
    return [one for one in ended if isinstance(one, AnswerRecord)]


def serve_crowd(folder: Path, count: int) -> Crowd:
    """Serve so many devices at once, and compare what they got and said."""
    _raise_open_files(4 * count + 256)
    crowd = Crowd()
    arguments = ("--dataset", f"synthetic:{count}x500", "--preset", PRESET)
    with (
        ServedProcess(folder / "server", (*arguments, *ONE_ADDRESS)) as server,
        Connection(server.address) as connection,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        description = connection.describe()
        store = VersionStore(folder / "store")
        store.save(description.version, connection.fetch_model(description).data)
        version = store.load(description.form("float32"), description.version)
        assert version is not None
        shared = Shared(server.address, version, read_local_ratings(server.ratings), pool, crowd)
        crowd.before = server.resident_mib()
        begun = time.monotonic()
        answered = asyncio.run(all_devices(shared, count))
        crowd.whole = time.monotonic() - begun
        crowd.after = server.resident_mib()
        tally = server.store / "tally.sqlite"
        crowd.reports, total = read_counts(tally, description.version, PRESET)
        assert server.drain() == 0
        oracle = Oracle(server.versions, PRESET)
    crowd.seconds = [one.waited for one in answered]
    expected = Counts.none(len(description.watched))
    for one in answered:
        expected += one.counts
        crowd.wrong += one.items != oracle.items(one.version, one.user)
    crowd.sums_agree = total == expected
    return crowd


def _raise_open_files(least: int) -> None:
    """Sockets of both ends, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < least:
        most = least if hard == resource.RLIM_INFINITY else min(least, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def markdown(crowd: Crowd) -> str:
    p50, p99 = (percentile(crowd.seconds, share) for share in (0.5, 0.99))
    cells = (
        *(len(crowd.seconds), len(crowd.errors), crowd.wrong, crowd.reports, crowd.repeats),
        *(f"{crowd.whole:.1f}", f"{p50:.1f}", f"{p99:.1f}"),
        f"{crowd.before:.0f} → {crowd.after:.0f}",
    )
    return (
        "| devices answered | errors | wrong | reports counted | asked to come back | all, s | "
        "a device: p50, s | p99, s | front's memory, MiB |\n"
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        f"| {' | '.join(map(str, cells))} |"
    )


app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(devices: Annotated[int, typer.Option("--devices", min=13)] = 1000) -> None:
    limit_threads()
    with TemporaryDirectory() as folder:
        crowd = serve_crowd(Path(folder), devices)
    typer.echo(markdown(crowd))
    for text in crowd.errors[:5]:
        typer.echo(text, err=True)
    sys.exit(not crowd.good)


if __name__ == "__main__":
    app()
