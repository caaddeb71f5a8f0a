"""Several servers on this machine that are one: PostgreSQL, `vicinal serve` processes, nginx.

What docs/how-to/cluster.md does on machines of your own; `vicinal cluster` and tests run it here.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, final

from client.disclosure import Disclosure
from client.run import DeviceRun, RunResult, answer_users
from common.errors import VicinalError
from common.files import make_folder
from server.reports.reading import read_shared_tally
from server.sql.postgresql import Database
from sims.processes.children import Children
from sims.processes.postgresql import PostgreSQL
from sims.progress import Report, quiet
from sims.serving.balancer import Balancer, nginx
from sims.serving.process import ServeProcess

# All callers come from one address, also those behind nginx.
ONE_ADDRESS: Final = ("--peer-calls", "4096", "--peer-bytes", "1e9")
TRAINS: Final = "trains from now on"
WAIT_SECONDS: Final = 60.0


@final
class Cluster:
    """Servers of one database, each with files of its own; a context manager that leaves none.

    folder     of everything
    arguments  of `vicinal serve`, beside those that name files, ports and what is shared
    database   that runs already; None starts one

    Raises VicinalError, InputError for a database that cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        servers: int = 3,
        database: str | None = None,
    ) -> None:
        self.folder = folder
        self._arguments = arguments
        self._count = servers
        self.database = database or ""
        self.postgresql: PostgreSQL | None = None
        self.servers: list[ServeProcess] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            make_folder(self.folder)
            if self.database:
                # What is wrong with it is said once, and not by a server that does not start.
                Database(self.database).close()
            else:
                self.postgresql = stack.enter_context(PostgreSQL())
                self.database = self.postgresql.database()
                stack.callback(_restored, os.environ.get("PGPASSWORD"))
                # In the environment, which others cannot read, and in no argument.
                os.environ["PGPASSWORD"] = PostgreSQL.PASSWORD
            for place in range(self._count):
                own = self.folder / f"server-{place + 1}"
                make_folder(own)
                children = stack.enter_context(Children(own))
                self.servers.append(ServeProcess(children, own, self.arguments()))
            # The first trains, and the others take over what it made.
            for one in self.servers:
                one.start()
                if one is self.servers[0]:
                    one.wait()
            for one in self.servers[1:]:
                one.wait()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def arguments(self) -> list[str]:
        """Of each server."""
        versions = (self.folder / "versions").absolute().as_uri()
        shared = ["--database", self.database, "--versions", versions]
        return [*self._arguments, *shared, *ONE_ADDRESS, "--metrics-port", "0"]

    @property
    def addresses(self) -> str:
        """Of all servers, as `vicinal device --server` takes them."""
        return ",".join(one.address for one in self.servers)

    @property
    def ratings(self) -> Path:
        """What devices know; the server that trained first has written it."""
        return self.servers[0].ratings

    def trainer(self) -> ServeProcess | None:
        """Who trains; None while nobody does."""
        there = [one for one in self.servers if not one.child.ended]
        for one in there:
            lines = one.metrics().splitlines()
            if "vicinal_trains 1.0" in lines:
                return one
        return None


@dataclass(frozen=True)
class ClusterResult:
    """What a run came to.

    failover  seconds from the kill of the server that trained until another one trains
    balanced  users who were answered through nginx; None: it is not installed
    reports, counted   of devices, and of the users in them, by the database
    """

    servers: int
    users: int
    reported: int
    reports: int
    counted: int
    failover: float
    balanced: int | None
    seconds: float


def run_cluster(
    folder: Path,
    arguments: Sequence[str],
    *,
    servers: int,
    users: int,
    preset: str,
    database: str | None = None,
    report: Report = quiet,
) -> ClusterResult:
    """Start everything, answer a third of the users, kill the server that trains, and answer the
    others without it, half of them through nginx where it is installed.

    Raises VicinalError, also when a user was not answered or a report is not counted once.
    """
    begun = time.monotonic()
    program = nginx()
    with ExitStack() as stack:
        cluster = stack.enter_context(
            Cluster(folder, arguments, servers=servers, database=database)
        )
        everybody = tuple(range(users))
        parts = [everybody[place::3] for place in range(3)]
        answered = [_answered(cluster, parts[0], preset, cluster.addresses, report)]
        failover = kill_trainer(cluster)
        answered.append(_answered(cluster, parts[1], preset, cluster.addresses, report))
        through = cluster.addresses
        if program is not None:
            there = [one.address for one in cluster.servers]
            balancer = stack.enter_context(Balancer(program, folder / "nginx", there))
            through = balancer.address
        answered.append(_answered(cluster, parts[2], preset, through, report))
        with Database(cluster.database) as opened:
            sums = list(read_shared_tally(opened).values())
    reported = sum(one.reported for each in answered for one in each.answered)
    counted = sum(one.counts.answered for one in sums)
    result = ClusterResult(
        servers,
        sum(len(each.answered) for each in answered),
        reported,
        sum(one.reports for one in sums),
        counted,
        failover,
        None if program is None else len(answered[2].answered),
        time.monotonic() - begun,
    )
    if (result.users, counted) != (users, reported):
        raise VicinalError(
            f"{result.users} of {users} users were answered, and {counted} of {reported} counted"
        )
    return result


def kill_trainer(cluster: Cluster) -> float:
    """SIGKILL for the server that trains; seconds until another one does. Raises VicinalError."""
    trainer = _until(cluster.trainer, "no server trains")
    begun = time.monotonic()
    trainer.kill()
    _until(cluster.trainer, "no other server trains")
    return time.monotonic() - begun


def _until(found: Callable[[], ServeProcess | None], text: str) -> ServeProcess:
    deadline = time.monotonic() + WAIT_SECONDS
    while (one := found()) is None:
        if time.monotonic() > deadline:
            raise VicinalError(text)
        time.sleep(0.02)
    return one


def _answered(
    cluster: Cluster, users: Sequence[int], preset: str, address: str, report: Report
) -> RunResult:
    run = DeviceRun(
        address,
        cluster.ratings,
        cluster.folder / "device",
        preset,
        tuple(users),
        stale=False,
        disclosure=Disclosure(1),
    )
    return answer_users(run, progress=lambda done, total: report("answer", done, total))


def _restored(before: str | None) -> None:
    if before is None:
        os.environ.pop("PGPASSWORD", None)
    else:
        os.environ["PGPASSWORD"] = before
