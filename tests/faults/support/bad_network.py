"""Devices behind 100 ms of round trip, 1 % of loss and 1 Mbit/s, with and without a version.

    python bad_network.py [--requests 1000]

The network is sims.load.network's `lossy`: a proxy. Where the system lets this process have a
network of its own with netem, the same is done once more there. Prints a Markdown table; the exit
code is 1 when fewer than 99.9 % of the requests were answered within their deadline, or one was
wrong.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from client.disclosure import Disclosure
from client.link.connection import Connection
from client.session import Session
from client.stores.ratings import LocalRatings, read_local_ratings
from client.stores.versions import VersionStore
from common.errors import VicinalError
from common.threads import limit_threads
from sims.load.network import Network
from tests.faults.support.device_process import PRESET
from tests.faults.support.figures import Oracle, percentile
from tests.faults.support.served import ServedProcess
from tests.support.modules import ENVIRONMENT, ROOT, command

PROFILE: Final = "lossy"
DATASET: Final = "synthetic:320x600"
USERS: Final = 320
# A device's own patience, and so the deadline of one call.
DEADLINE_SECONDS: Final = 30.0
DEVICES: Final = 4
# Users of one session; the next one is cold again.
USERS_PER_SESSION: Final = 24
LEAST_SHARE: Final = 0.999
NETEM: Final = ("delay", "50ms", "loss", "1%", "rate", "1mbit")


@dataclass
class Behind:
    """Seconds of openings with an empty store, of answers, and what went wrong."""

    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    late: int = 0
    wrong: int = 0

    @property
    def asked(self) -> int:
        return len(self.cold) + len(self.warm) + len(self.failed)

    @property
    def share(self) -> float:
        """Of the requests that were answered within the deadline."""
        return 1 - (self.late + len(self.failed)) / self.asked if self.asked else 0.0

    @property
    def good(self) -> bool:
        return self.share >= LEAST_SHARE and not self.wrong


def behind_proxy(folder: Path, requests: int) -> Behind:
    with (
        ServedProcess(folder / "server", ("--dataset", DATASET)) as server,
        Network(PROFILE, server.address) as network,
    ):
        return _ask(folder, server, network.address, requests)


def behind_netem(requests: int) -> Behind | str:
    """The same in a network namespace with netem on its loopback; or why that cannot be."""
    inside = f"ip link set lo up && tc qdisc add dev lo root netem {' '.join(NETEM)}"
    begun = f'{inside} && exec "$@"'
    itself = command("tests.faults.support.bad_network", "--requests", str(requests), "--here")
    try:
        tried = subprocess.run(
            ["unshare", "-rn", "sh", "-c", inside], capture_output=True, text=True, check=False
        )
        if tried.returncode:
            return " ".join(tried.stderr.split())[:200]
        done = subprocess.run(
            ["unshare", "-rn", "sh", "-c", begun, "sh", *itself],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=ENVIRONMENT,
            check=False,
        )
    except OSError as error:
        return str(error)
    if done.returncode:
        return " ".join(done.stderr.split())[-200:]
    return Behind(**json.loads(done.stdout))


def _ask(folder: Path, server: ServedProcess, address: str, requests: int) -> Behind:
    found = Behind()
    answers: list[tuple[str, int, tuple[int, ...]]] = []
    local = read_local_ratings(server.ratings)

    def play(place: int) -> None:
        """Sessions one after another, each with an empty store."""
        share, begun = requests // DEVICES, 0
        while begun < share:
            users = range(begun, min(begun + USERS_PER_SESSION, share))
            store = folder / f"{place}-{begun}"
            begun = users.stop
            with Connection(address, patience=DEADLINE_SECONDS) as connection:
                chosen = [(DEVICES * user + place) % USERS for user in users]
                _session(connection, store, local, chosen, found, answers)

    with ThreadPoolExecutor(DEVICES) as pool:
        list(pool.map(play, range(DEVICES)))
    assert server.drain() == 0
    oracle = Oracle(server.versions)
    found.wrong = sum(items != oracle.items(version, user) for version, user, items in answers)
    return found


def _session(
    connection: Connection,
    store: Path,
    local: LocalRatings,
    users: list[int],
    found: Behind,
    answers: list[tuple[str, int, tuple[int, ...]]],
) -> None:
    begun = time.monotonic()
    try:
        session = Session(
            connection,
            VersionStore(store),
            local,
            preset=PRESET,
            disclosure=Disclosure(least_users=1),
        )
        found.cold.append(time.monotonic() - begun)
        for user in users:
            begun = time.monotonic()
            (batch,) = session.answer([user])
            found.warm.append(time.monotonic() - begun)
            found.late += found.warm[-1] > DEADLINE_SECONDS
            answers.append((batch[0].version, user, batch[0].items))
    except VicinalError as error:
        found.failed.append(str(error))


def markdown(name: str, found: Behind) -> Iterator[str]:
    yield (
        "| network | requests | within 30 s | wrong | cold, bytes of a version: p50, s | longest "
        "| warm: p50, s | p99 | longest |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    times = [percentile(found.cold, share) for share in (0.5, 1.0)]
    times += [percentile(found.warm, share) for share in (0.5, 0.99, 1.0)]
    cells = (name, found.asked, f"{100 * found.share:.2f} %", found.wrong)
    yield f"| {' | '.join(map(str, (*cells, *(f'{one:.2f}' for one in times))))} |"


app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    requests: Annotated[int, typer.Option("--requests", min=DEVICES)] = 1000,
    here: Annotated[
        bool, typer.Option("--here", help="In the network as it is, without a proxy; prints JSON.")
    ] = False,
) -> None:
    limit_threads()
    with TemporaryDirectory() as folder:
        if here:
            with ServedProcess(Path(folder), ("--dataset", DATASET)) as server:
                found = _ask(Path(folder), server, server.address, requests)
            typer.echo(json.dumps(asdict(found)))
            return
        found = behind_proxy(Path(folder), requests)
    for line in markdown("proxy, 100 ms, 1 %, 1 Mbit/s", found):
        typer.echo(line)
    there = behind_netem(requests)
    if isinstance(there, str):
        typer.echo(f"\nnetem: skipped, this machine does not let us: {there}")
    else:
        typer.echo(list(markdown("netem, 100 ms, 1 %, 1 Mbit/s", there))[-1])
    for text in found.failed[:5]:
        typer.echo(text, err=True)
    sys.exit(not (found.good and (isinstance(there, str) or there.good)))


if __name__ == "__main__":
    app()
