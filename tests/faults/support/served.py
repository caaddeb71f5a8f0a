"""A `vicinal serve` process to be killed and started again: the same port, the same store.

What it served is copied away version by version, so that answers can be checked after it has
deleted a version, or died.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Self, final

from server.versions.folder import DESCRIPTION_FILE

ROOT: Final = Path(__file__).resolve().parents[3]
# Against hanging only; a start loads torch and, the first time, trains.
START_SECONDS: Final = 240.0
POLL_SECONDS: Final = 0.05


@final
class ServedProcess:
    """A context manager that leaves no process.

    folder     of its store, files and logs
    arguments  of `vicinal serve`, beside those that name files and ports
    """

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self.folder = folder
        self.ratings = folder / "ratings"
        self.store = folder / "store"
        self.versions = folder / "versions"
        self.port = 0
        self.starts = 0
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._copier = threading.Thread(target=self._copy_always, daemon=True)
        self._copying = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self.versions.mkdir(exist_ok=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it where it was before, and wait until it listens."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        files = ("--store", self.store, "--device-ratings", self.ratings, "--port-file", port_file)
        command = [sys.executable, "-m", "sims.cli", "serve", *map(str, files)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (self.folder / "log").open("ab") as log, (self.folder / "out").open("wb") as out:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port), "--metrics-port", "0", *self._arguments],
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=log,
            )
        deadline = monotonic() + START_SECONDS
        while not port_file.exists():
            assert self._process.poll() is None and monotonic() < deadline, self.log
            sleep(POLL_SECONDS)
        self.port = int(port_file.read_text())
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL; what it had published is copied before anything else starts."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._copy()

    def drain(self) -> int:
        """SIGTERM, and wait; its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(timeout=START_SECONDS)
        self._copy()
        return code

    def tell(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def metric(self, name: str) -> float:
        """The sum of a metric's values, over its labels."""
        said = (self.folder / "out").read_text()
        where = said.partition("metrics on ")[2].split()[0]
        with urllib.request.urlopen(where, timeout=60) as scraped:
            lines = scraped.read().decode().splitlines()
        named = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return sum(float(value) for key, _, value in named if key.partition("{")[0] == name)

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
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
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
