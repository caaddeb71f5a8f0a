"""A `vicinal serve` process: started, waited for, looked at, ended, and started again."""

import signal
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self, final

from common.processes import process_status
from sims.processes.children import Child, Children
from sims.processes.marked import family

# Against hanging only: a model of Yelp's size is long trained where other work shares the machine.
START_SECONDS: Final = 3600
_METRICS: Final = "metrics on "


@final
class ServeProcess:
    """As a context manager it listens in the block, and is gone after it.

    folder     of its store, its devices' ratings, its port file and its log
    arguments  of `vicinal serve`, beside those that name files and the port
    cores      that it is held to
    """

    def __init__(
        self, children: Children, folder: Path, arguments: Sequence[str], cores: Sequence[int] = ()
    ) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.ratings = folder / "devices"
        self.port = 0
        self._port_file = folder / "port"
        self._children = children
        # On loopback, and whoever starts it is trusted with everybody's packages.
        self._arguments = [*arguments, *(() if "--token-secret" in arguments else ("--open",))]
        self._cores = cores
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait()
        except BaseException:
            self.child.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if not self.child.ended:
            self.child.stop()

    def start(self) -> None:
        """On the port that it had, or on a free one; its log goes on where it ended."""
        self._port_file.unlink(missing_ok=True)
        self._child = self._children.start(
            "sims.cli",
            *("serve", *self._arguments, "--port", str(self.port)),
            *("--port-file", str(self._port_file), "--store", str(self.store)),
            *("--device-ratings", str(self.ratings)),
            name="server",
            cores=self._cores,
            captured=False,
            more=self._child is not None,
        )

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Until it listens. Raises VicinalError when it ends before or takes too long."""
        self.child.until(self._port_file.exists, seconds)
        self.port = int(self._port_file.read_text())

    @property
    def child(self) -> Child:
        assert self._child is not None
        return self._child

    @property
    def pid(self) -> int:
        """Of the process that listens."""
        return self.child.pid

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has written, to stdout and stderr, of all its starts."""
        return self.child.log.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        """The ids of what it started."""
        return sorted(one.pid for one in family(self.pid) if one.pid != self.pid)

    def processor_seconds(self) -> dict[str, float]:
        """Processor time so far of the front and of the workers."""
        spent = {pid: process_status(pid).seconds for pid in (self.pid, *self.workers)}
        front = spent.pop(self.pid)
        return {"workers": sum(spent.values()), "front": front}

    def metrics(self) -> str:
        """What it tells of itself. It has to be started with --metrics-port."""
        address = self.log.rpartition(_METRICS)[2].split()[0]
        with urllib.request.urlopen(address, timeout=60) as reply:
            text: str = reply.read().decode()
        return text

    def drain(self) -> int:
        """SIGTERM, and wait as long as it takes to answer; its exit code."""
        self.child.signal(signal.SIGTERM)
        return self.child.wait(START_SECONDS)

    def kill(self) -> None:
        self.child.signal(signal.SIGKILL)
        self.child.wait(START_SECONDS)
