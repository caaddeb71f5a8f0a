"""Where `--track` writes to: a registry, a check before the work, and warnings after it."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, final

import typer

from common.errors import InputError, VicinalError
from common.files import write_output
from common.names import unknown
from common.text import one_line
from sims.progress import counter, shown
from sims.terminal import notes_wanted
from sims.tracking.runs import TrackedRun, key_of

# Loaded by name when asked for, as what draws a report is: commands run without these libraries.
TRACKERS: Final = {
    "mlflow": "sims.tracking.mlflow_server",
    "tensorboard": "sims.tracking.tensorboard_folder",
}
RESULTS: Final = "sims.tracking.results"
OF_GRID: Final = "sims.tracking.of_grid"
# Where results are kept that nobody asked for as JSON, and that no tracker took.
UNTRACKED: Final = Path("runs/untracked")


class Tracker(Protocol):
    """A place that runs are written to."""

    @property
    def address(self) -> str:
        """As one names it behind `--track`."""

    def write(self, run: TrackedRun, *, within: str = "", ended: bool = True) -> str:
        """Write a run, once however often it is asked for; what others are written within.

        within  what this gave for the run that it belongs to
        ended   whether all is said

        Raises VicinalError.
        """

    def where(self, written: str) -> str:
        """Where a person finds it."""


class Following(Protocol):
    """What is told of a grid while it runs."""

    def add(self, path: Path, result: Any) -> None:
        """A cell that has just been written to its file."""

    def finish(self, cells: Mapping[Path, Any]) -> None:
        """All cells that were asked for, by their files."""


@final
class Unfollowed:
    """A grid that no tracker is told of."""

    def add(self, path: Path, result: Any) -> None:
        """Nothing."""

    def finish(self, cells: Mapping[Path, Any]) -> None:
        """Nothing."""


@final
@dataclass(frozen=True)
class Places:
    """All that were asked for; none is none."""

    trackers: Sequence[Tracker] = ()

    def grid(self, folder: Path, config: Any) -> "Following":
        """A grid that is about to run in a folder, by its configuration."""
        if not self.trackers:
            return Unfollowed()
        following: Following = import_module(OF_GRID).GridTracking(self, folder, config)
        return following

    def write(self, told: Mapping[str, Any], *, kept: Path | None) -> None:
        """The results of a command, with what they were drawn as.

        kept  the file that has them as JSON; where there is none and a tracker is gone, one is made
        """
        if not self.trackers:
            return
        results, runs = import_module(RESULTS), list[TrackedRun]()
        for tracker in self.trackers:
            try:
                runs = runs or results.runs_of(told, made=time.time())
                written(tracker, runs)
            except VicinalError as error:
                if kept is None:
                    kept = UNTRACKED / f"{key_of(told)[:12]}.json"
                    write_output(kept, (json.dumps(told, indent=2) + "\n").encode())
                warn(tracker, error, kept)


def written(tracker: Tracker, runs: Sequence[TrackedRun]) -> None:
    """The first run, and the others within it. Raises VicinalError."""
    first, *others = runs
    place = tracker.write(first, ended=not others)
    if others:
        with shown() as report:
            advance = counter(report, "runs written", len(others))
            for one in others:
                tracker.write(one, within=place)
                advance(1)
        place = tracker.write(first)
    if notes_wanted():
        typer.echo(f"tracked: {one_line(tracker.where(place), 400)}", err=True)


def warn(tracker: Tracker, error: Exception, kept: Path) -> None:
    """That a tracker did not take results, which are not lost."""
    command = shlex.join(["vicinal", "track", str(kept), tracker.address])
    typer.echo(
        f"warning: not written to {tracker.address}: {one_line(str(error))}. The results are in "
        f"{kept}: `{command}` writes them there",
        err=True,
    )


def tracked(words: Sequence[str] | None) -> Places:
    """What `--track` names, reached and ready.

    Raises InputError for what cannot be reached or written to; VicinalError for a library that
    is not installed.
    """
    return Places([_tracker(word) for word in dict.fromkeys(words or [])])


def _tracker(word: str) -> Tracker:
    kind, _, rest = word.partition(":")
    if kind not in TRACKERS:
        raise InputError(unknown("tracker", kind, TRACKERS))
    try:
        tracker: Tracker = import_module(TRACKERS[kind]).opened(rest)
    except ModuleNotFoundError as error:
        raise VicinalError(
            f"this needs {error.name}, which is not installed here: pip install 'vicinal[track]'"
        ) from None
    return tracker
