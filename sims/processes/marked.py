"""Finding and stopping everything that a program started, also what detached itself.

Flower detaches its SuperLink and Ray its daemons, so neither a process group nor the tree of
parents leads to all of them. What leads to them is a mark in the environment, which processes
hand on, or a parent that has it (some processes overwrite what /proc shows of theirs).
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from common.processes import process_status

_POLL_SECONDS = 0.1

Handler = Callable[[int, FrameType | None], None] | signal.Handlers


class Process(NamedTuple):
    """A process, told from a later one of the same id by when it started."""

    pid: int
    started: str


def marked_processes(mark: str, roots: Iterable[int] = ()) -> set[Process]:
    """Processes with `mark` (`NAME=value`) in their environment or with an id in `roots`, and
    all that they started. Never this process. Where there is no /proc, roots alone count.
    """
    parents = _parents()
    found = {process for process in parents if process.pid in set(roots) or _has(process.pid, mark)}
    return _with_children({process for process in found if process.pid != os.getpid()}, parents)


def family(root: int) -> set[Process]:
    """A process and all that it started, as far as they are there."""
    parents = _parents()
    return _with_children({process for process in parents if process.pid == root}, parents)


def _with_children(found: set[Process], parents: dict[Process, int]) -> set[Process]:
    while True:
        pids = {process.pid for process in found}
        more = {process for process, parent in parents.items() if parent in pids} - found
        if not more:
            return found
        found |= more


def stop_processes(mark: str, roots: Iterable[int] = (), *, grace: float) -> None:
    """SIGTERM to all marked processes, SIGKILL to those that are left `grace` seconds later."""
    roots, seen = set(roots), set[Process]()
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace
        signalled: set[Process] = set()
        # What lost its parent is not found anew, but was seen before.
        while left := marked_processes(mark, roots) | (seen & _parents().keys()):
            seen |= left
            for process in left - signalled:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, number)
            signalled |= left
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that its clean-up runs."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling((signal.SIGTERM, signal.SIGHUP), interrupt):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep a second Ctrl-C from breaking off a clean-up."""
    with _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
        yield


@contextmanager
def interrupts_put_off() -> Iterator[None]:
    """Answer what would break the block off, as Ctrl-C, after it: for an import, say."""
    arrived: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    with _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), remember):
        yield
    if arrived:
        signal.raise_signal(signal.Signals(arrived[0]))


@contextmanager
def _handling(numbers: tuple[signal.Signals, ...], handler: Handler) -> Iterator[None]:
    before = {}
    # Only the main thread may set handlers, and only it receives signals.
    with suppress(ValueError):
        before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _parents() -> dict[Process, int]:
    """Every process, and its parent's id. A zombie is gone but for the note to its parent."""
    if not Path("/proc/self/stat").exists():
        return _parents_by_ps()
    parents = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal():
                status = process_status(int(entry.name))
                if status.state != "Z":
                    parents[Process(int(entry.name), status.started)] = status.parent
    return parents


def _parents_by_ps() -> dict[Process, int]:
    command = ["ps", "-A", "-o", "pid=,ppid=,stat="]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = (line.split() for line in listed.stdout.splitlines())
    return {Process(int(pid), ""): int(parent) for pid, parent, stat in rows if stat[0] != "Z"}


def _has(pid: int, mark: str) -> bool:
    with suppress(OSError):
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False
