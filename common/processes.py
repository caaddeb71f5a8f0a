"""Processes of this code: how they are started, when they end, what they have used."""

import math
import operator
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, final

P = ParamSpec("P")
R = TypeVar("R")

# Of processor time, as Linux tells a process of its groups.
_GROUPS: Final = Path("/proc/self/cgroup")
_GROUP_FILES: Final = Path("/sys/fs/cgroup")

# The folder that our packages lie in.
ROOT: Final = str(Path(__file__).absolute().parents[1])
# Run by its path: a name could be another's.
PINNING: Final = str(Path(__file__).absolute().with_name("pinning.py"))


def module_command(module: str, *arguments: str) -> list[str]:
    """`python -m module`, but with this code wherever it is started, and whatever lies there."""
    return [sys.executable, "-P", PINNING, module, *arguments]


@final
class Pinned(Generic[P, R]):
    """A function for a process of multiprocessing or Ray, which finds this code before it."""

    def __init__(self, function: Callable[P, R]) -> None:
        self._function = function

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        return self._function(*arguments, **named)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # A tuple is unpickled from its first part to its last: the pin, and then our function.
        return operator.itemgetter(1), ((_Pin(), self._function),)


@final
class _Pin:
    """Pins the process in which it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # By name: another machine may hold this code elsewhere, and nobody else has this name.
        return import_module, ("vicinal",)


def core_count(groups: Path = _GROUPS, files: Path = _GROUP_FILES) -> int:
    """Cores that this process may keep busy: by its affinity and by its groups' quota.

    groups, files  where Linux tells of the groups (cgroup v1 or v2); elsewhere there are none
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas(groups, files))]))


def _quotas(groups: Path, files: Path) -> Iterator[float]:
    """Cores' worth of time that each group around this process may use, where it is limited."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = files / controllers if controllers else files
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            with suppress(OSError, ValueError):
                if controllers:
                    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                    quota, period = (float((folder / name).read_text()) for name in names)
                else:
                    quota, period = map(float, (folder / "cpu.max").read_text().split())
                if quota > 0 and period > 0:
                    yield quota / period


class HasDescriptor(Protocol):
    """A file, a pipe, a connection."""

    def fileno(self) -> int:
        """The number that the system knows it by."""


def end_with(parent: HasDescriptor | int, *, first: Callable[[], None] = lambda: None) -> None:
    """End this process at once when the other end of a pipe is closed, however that happens.

    parent  the reading end; what is written to it says nothing
    first   what is left to be done then
    """

    def watch() -> None:
        # Not a file object's read, whose lock would outlive the main thread.
        while os.read(parent if isinstance(parent, int) else parent.fileno(), 1024):
            pass
        with suppress(OSError):
            first()
        os._exit(1)

    threading.Thread(target=watch, name="parent's end", daemon=True).start()


class Status(NamedTuple):
    """What the system says of a process.

    state    one letter: R runs or waits for a core, Z has ended but for the note to its parent
    seconds  of processor time so far, of all its threads
    started  tells it from a later process of the same id
    """

    state: str
    parent: int
    seconds: float
    started: str


def process_status(pid: int) -> Status:
    """Raises OSError for a process that is gone, and where there is no /proc."""
    # pid (name) state ppid …; the name may hold spaces and brackets.
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    fields = text.rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Status(fields[0], int(fields[1]), seconds, fields[19])
