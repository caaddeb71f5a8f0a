"""Processes that one run starts, all marked as its own, and stopped with it whatever happens.

They are in sessions of their own, so that Ctrl-C in a terminal reaches only the run itself, which
then stops them.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, final

from common.errors import VicinalError
from common.processes import module_command
from sims.processes.marked import stop_processes, uninterrupted

GRACE_SECONDS: Final = 40
# Of a child without work left, until it has written its result.
END_SECONDS: Final = 60
_MARK: Final = "VICINAL_RUN"


@final
class Children:
    """Starts processes; a context manager that leaves none.

    What a run of the same folder left that was itself killed is stopped too, at the beginning.

    folder  of the run, and of no other at the same time: it names the mark, and logs lie there
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = str(folder.resolve())
        self._started: list[Child] = []

    def __enter__(self) -> Self:
        self._stop()
        return self

    def __exit__(self, *_error: object) -> None:
        with uninterrupted():
            self._stop()

    def _stop(self) -> None:
        # One that has just begun does not show its environment yet.
        roots = [child.pid for child in self._started if not child.ended]
        stop_processes(f"{_MARK}={self._mark}", roots, grace=GRACE_SECONDS)

    def start(
        self,
        module: str,
        *arguments: str,
        name: str,
        cores: Sequence[int] = (),
        captured: bool = True,
        more: bool = False,
    ) -> "Child":
        """A Python module as a process, on some cores where the system can hold it to them.

        What it prints is for Child.line and Child.result, or where it is not captured, for the log,
        which begins anew unless there is `more` to come in one of the same name.
        """
        log = self._folder / f"{name}.log"
        with log.open("ab" if more else "wb") as opened, _on(cores):
            process = subprocess.Popen(
                module_command(module, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if captured else opened,
                stderr=opened,
                text=True,
                env={**os.environ, _MARK: self._mark},
                start_new_session=True,
            )
        child = Child(process, log, name)
        self._started.append(child)
        return child


@final
class Child:
    """One process: lines to it, lines from it, and its log."""

    def __init__(self, process: subprocess.Popen[str], log: Path, name: str) -> None:
        self._process = process
        self.log = log
        self._name = name
        self.pid = process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    @property
    def ended(self) -> bool:
        return self.code is not None

    def tell(self, line: str) -> None:
        """Raises VicinalError when it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except OSError:
            raise self.failure("ended early") from None

    def line(self) -> str:
        """The next line that it says. Raises VicinalError when it ends before."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().rstrip("\n")
        if not line:
            raise self.failure("ended early")
        return line

    def result(self, seconds: float) -> dict[str, Any]:
        """The JSON that it prints within `seconds` and a while. Raises VicinalError."""
        try:
            text, _ = self._process.communicate(timeout=seconds + END_SECONDS)
            found: dict[str, Any] = json.loads(text)
        except subprocess.TimeoutExpired:
            raise self.failure(f"had no result after {seconds + END_SECONDS:.0f} s") from None
        except ValueError:
            raise self.failure("ended without a result") from None
        return found

    def until(self, there: Callable[[], bool], seconds: float) -> None:
        """Wait until something is there. Raises VicinalError when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not there():
            if self.ended or time.monotonic() > deadline:
                raise self.failure("did not start")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit code, once it has ended. Raises VicinalError when it has not by then."""
        try:
            self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"did not end within {seconds:.0f} s") from None
        return self._process.returncode

    def stop(self) -> int:
        """SIGTERM, and wait; SIGKILL where that does not help. The exit code."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        return self._process.returncode

    def failure(self, what: str) -> VicinalError:
        """What went wrong, with the last line of the log."""
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        return VicinalError(f"{self._name} {what}: {lines[-1].strip()} (log: {self.log})")


class CoreSplit(NamedTuple):
    """Cores of the server, and of everything else; the same where there is only one."""

    server: tuple[int, ...]
    others: tuple[int, ...]

    @property
    def apart(self) -> bool:
        return not set(self.server) & set(self.others)


def split_cores() -> CoreSplit:
    """Half of the cores that this process may use for each; nothing is held where none can be."""
    if not hasattr(os, "sched_getaffinity"):
        return CoreSplit((0,), (0,))
    cores = tuple(sorted(os.sched_getaffinity(0)))
    half = len(cores) // 2
    return CoreSplit(cores[:half], cores[half:]) if half else CoreSplit(cores, cores)


@contextmanager
def _on(cores: Sequence[int]) -> Iterator[None]:
    """What this thread starts in the block inherits these cores."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
