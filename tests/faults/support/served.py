"""A `vicinal serve` process to be killed and started again: the same port, the same store.

What it served is copied away version by version, so that answers can be checked after it has
deleted a version, or died.
"""

import shutil
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, final

from server.versions.folder import DESCRIPTION_FILE
from sims.processes.children import Children
from sims.serving.process import ServeProcess

# Against hanging only; a start loads torch and, the first time, trains.
START_SECONDS: Final = 240.0
POLL_SECONDS: Final = 0.05
# All callers of these tests share an address.
ONE_ADDRESS: Final = ("--peer-calls", "4096", "--peer-bytes", "1e9")


@final
class ServedProcess:
    """A context manager that leaves no process.

    folder     of its store, files and logs
    arguments  of `vicinal serve`, beside those that name files and ports
    """

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        arguments = [*arguments, "--metrics-port", "0"]
        self._process = ServeProcess(Children(folder), folder, arguments)
        self.folder = folder
        self.ratings = self._process.ratings
        self.store = self._process.store
        self.versions = folder / "versions"
        self.starts = 0
        self._over = threading.Event()
        self._copier = threading.Thread(target=self._copy_always, daemon=True)
        self._copying = threading.Lock()
        self.versions.mkdir(exist_ok=True)

    @property
    def address(self) -> str:
        return self._process.address

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._process.log

    def start(self) -> None:
        """Start it where it was before, and wait until it listens."""
        self._process.start()
        self._process.wait(START_SECONDS)
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL; what it had published is copied before anything else starts."""
        self._process.kill()
        self._copy()

    def drain(self) -> int:
        """SIGTERM, and wait; its exit code."""
        code = self._process.drain()
        self._copy()
        return code

    def tell(self, number: signal.Signals) -> None:
        self._process.child.signal(number)

    def metric(self, name: str) -> float:
        """The sum of a metric's values, over its labels."""
        lines = self._process.metrics().splitlines()
        named = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return sum(float(value) for key, _, value in named if key.partition("{")[0] == name)

    def labeled(self, name: str) -> list[tuple[str, float]]:
        """A metric's values, by the value of its only label."""
        lines = self._process.metrics().splitlines()
        named = (line.rpartition(" ") for line in lines if line.startswith(f"{name}{{"))
        return [(key.split('"')[1], float(value)) for key, _, value in named]

    @property
    def metrics_port(self) -> int:
        return int(self._process.log.rpartition("metrics on http://127.0.0.1:")[2].split("/")[0])

    def resident_mib(self) -> float:
        """Memory of the process that listens, in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def __enter__(self) -> Self:
        self.start()
        self._copier.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        if self.starts and not self._process.child.ended:
            self._process.kill()
        self._copier.join()

    def _copy_always(self) -> None:
        while not self._over.wait(4 * POLL_SECONDS):
            self._copy()

    def _copy(self) -> None:
        with self._copying:
            for said in (self.store / "serving").glob(f"*/{DESCRIPTION_FILE}"):
                source, target = said.parent, self.versions / said.parent.name
                part = target.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                # The server may be deleting it.
                with suppress(OSError, shutil.Error):
                    if not target.exists():
                        shutil.copytree(source, part)
                        part.replace(target)
