"""Three servers that are one, devices that ask them without end, and what dies meanwhile."""

import random
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Self, final

from client.link.connection import Connection
from server.sql.postgresql import Database
from server.versions.folder import DESCRIPTION_FILE
from sims.serving.cluster import Cluster, kill_trainer
from tests.faults.support.device_process import Device, Kind
from tests.faults.support.figures import (
    Figures,
    Oracle,
    check_answers,
    check_reports,
    requests_of,
)
from tests.faults.support.ledger import last_entries, read_ledger
from tests.support.modules import ENVIRONMENT, ROOT, command

USERS: Final = 320
ARGUMENTS: Final = (
    *("--dataset", f"synthetic:{USERS}x1500", "--workers", "1", "--queue-ms", "60000"),
    *("--retrain-every", "6", "--grace", "30", "--list-length", "20"),
    *("--presets", "vicinal,paper", "--preset", "paper", "--k", "30"),
)
# All but phones: there is always a server that answers, so that nobody needs a last package.
KINDS: Final[tuple[Kind, ...]] = ("patient", "slim", "newcomer", "asker")
DEADLINE: Final = 60.0
POLL_SECONDS: Final = 0.05
# Of what may take long on a busy machine.
PATIENCE: Final = 2 * DEADLINE


@final
class ClusterField:
    """A context manager that leaves no process.

    failovers  seconds from the kill of the server that trained until another one trained
    """

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self._folder = folder
        self._rng = random.Random(seed)
        self.cluster = Cluster(folder / "cluster", ARGUMENTS)
        self.failovers: list[float] = []
        self.done: Counter[str] = Counter()
        self._versions = folder / "versions"
        self._versions.mkdir()
        self._devices: list[tuple[Device, subprocess.Popen[bytes]]] = []
        self._over = threading.Event()
        self._copier = threading.Thread(target=self._copy_always, daemon=True)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.cluster)
            self._copier.start()
            stack.callback(self._end)
            for place, kind in enumerate(KINDS):
                device = Device(
                    name=kind,
                    kind=kind,
                    address=self.cluster.addresses,
                    ratings=str(self.cluster.ratings),
                    folder=str(self._folder),
                    users=USERS,
                    seed=place,
                    deadline=DEADLINE,
                    pause=0.05,
                )
                self._devices.append((device, self._started(device)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def run(self, faults: Iterable[str]) -> None:
        """One after another; between them every device gets at least one answer."""
        self.wait_for_all()
        for name in faults:
            FAULTS[name](self)
            self.done[name] += 1
            self.wait_for_all()

    def wait_for_all(self) -> None:
        begun = monotonic()
        for device, process in self._devices:

            def answered(device: Device = device) -> bool:
                entries = last_entries(device.ledger)
                return any(one["what"] == "ended" and one["at"] > begun for one in entries)

            self._until(answered, device.name)
            assert process.poll() is None, self.log

    def kill_trainer(self) -> None:
        self.failovers.append(kill_trainer(self.cluster))
        self._again()

    def kill_server(self) -> None:
        """Any but the one that trains."""
        trainer = self.cluster.trainer()
        there = [one for one in self.cluster.servers if one is not trainer]
        self._rng.choice(there).kill()
        # The others go on for a while before it comes back.
        self.wait_for_all()
        self._again()

    def kill_database(self) -> None:
        running = self.cluster.postgresql
        assert running is not None
        running.kill()
        # Answers come all the same.
        self.wait_for_all()
        running.start()

    def drain(self) -> None:
        one = self._rng.choice(self.cluster.servers)
        assert one.drain() == 0, self.log
        self.wait_for_all()
        self._again()

    def rotate(self) -> None:
        """SIGHUP to a server, whichever trains; until all serve a new version."""
        before = self._served()
        self._rng.choice(self.cluster.servers).child.signal(signal.SIGHUP)
        self._until(lambda: not before & self._served(), "no new version")

    @property
    def log(self) -> str:
        texts = [path.read_text(errors="replace") for path in self._folder.glob("*.log")]
        return "\n".join([*texts, *(one.log for one in self.cluster.servers)])

    def finish(self) -> Figures:
        """End the devices, and compare everything."""
        for _, process in self._devices:
            assert process.stdin is not None
            process.stdin.write(b"end\n")
            process.stdin.flush()
        for device, process in self._devices:
            code = process.wait(timeout=PATIENCE)
            assert code == 0, f"{device.name} ended with {code}: {self.log}"
        assert "Traceback" not in self.log, self.log
        figures = Figures()
        ledgers = {device: read_ledger(device.ledger) for device, _ in self._devices}
        for device, entries in ledgers.items():
            figures.requests[device.name] = requests_of(entries, device.kind, DEADLINE, ())
        self._copy()
        check_answers(figures, ledgers.values(), Oracle(self._versions))
        owed = frozenset(
            path.stem for device in ledgers for path in device.store.glob("reports/*/*.report")
        )
        with Database(self.cluster.database) as database:
            check_reports(figures, ledgers.values(), database, owed)
        return figures

    def _served(self) -> set[str]:
        found = set()
        for one in self.cluster.servers:
            with Connection(one.address, patience=DEADLINE) as connection:
                found.add(connection.describe().version)
        return found

    def _again(self) -> None:
        for one in self.cluster.servers:
            if one.child.ended:
                one.start()
        for one in self.cluster.servers:
            one.wait(PATIENCE)

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = monotonic() + PATIENCE
        while not holds():
            assert monotonic() < deadline, f"{what}: {self.log}"
            sleep(POLL_SECONDS)

    def _started(self, device: Device) -> subprocess.Popen[bytes]:
        with (self._folder / f"{device.name}.log").open("ab") as log:
            return subprocess.Popen(
                command("tests.faults.support.device_process", device.argument()),
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stderr=log,
            )

    def _end(self) -> None:
        self._over.set()
        self._copier.join()
        for _, process in self._devices:
            process.kill()
            process.wait()

    def _copy_always(self) -> None:
        while not self._over.wait(2 * POLL_SECONDS):
            self._copy()

    def _copy(self) -> None:
        """What servers have, for the oracle: they delete it after its time."""
        for server in self.cluster.servers:
            for said in (server.store / "serving").glob(f"*/{DESCRIPTION_FILE}"):
                source, target = said.parent, self._versions / said.parent.name
                part = target.with_suffix(".part")
                with suppress(OSError, shutil.Error):
                    if not target.exists():
                        shutil.rmtree(part, ignore_errors=True)
                        shutil.copytree(source, part)
                        part.replace(target)


FAULTS: Final[dict[str, Callable[[ClusterField], None]]] = {
    "the server that trains killed, started again": ClusterField.kill_trainer,
    "another server killed, started again": ClusterField.kill_server,
    "database killed, started again": ClusterField.kill_database,
    "server drained, started again": ClusterField.drain,
    "new version asked for (SIGHUP)": ClusterField.rotate,
}
