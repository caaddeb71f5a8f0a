"""Evaluations of many ratings, stage by stage: `python -m benchmarks.scale.evaluating`.

`vicinal evaluate` runs as a process of its own, and its progress says in which stage it is. Memory
is the sum over it and its worker processes, looked at four times a second; what several of them
have in common counts once (PSS). It needs Linux.

--shape  ml-10m or ml-25m: one of the two
--whole  with whole trainings; otherwise they end after one epoch or round
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import IO, Annotated, Any, Final, final

import typer

from benchmarks.report import Section, progress, show, table
from common.processes import module_command, process_status
from sims.processes.marked import family
from sims.terminal import QUIET

MIB: Final = 1 << 20
BETWEEN_LOOKS: Final = 0.25


@dataclass(frozen=True)
class Case:
    """What is evaluated, and what it may take; 0 is no bound."""

    title: str
    shape: str
    arguments: tuple[str, ...]
    about: str
    most_minutes: float = 0.0
    most_mib: int = 0


CASES: Final = {
    "ml-10m": Case(
        "MovieLens 10M's shape",
        "synthetic:69878x10677x10000054",
        ("--users", "200"),
        "All else is as by default: attack mixrand, defense rvd, baselines popularity, userknn and "
        "ease. Four models are trained: mf with 25 epochs for the undefended conditions, and by "
        "alternating least squares for the defended ones, each on the clean and on the attacked "
        "ratings.",
        most_minutes=12.0,
        most_mib=3 << 10,
    ),
    "ml-25m": Case(
        "MovieLens 25M's shape",
        "synthetic:162541x59047x25000095",
        ("--users", "20"),
        "The same of more users and items. EASE would invert a table of 59,047 × 59,047 numbers, "
        "27.9 GB: it is left out before anything of it is computed.",
        most_mib=24 << 10,
    ),
}
SHORT: Final = Case(
    "A short one", "synthetic:2000x1500x100000", ("--users", "20"), "For `make bench`."
)

INTRODUCTION: Final = """\
## Evaluations of many ratings

`vicinal evaluate` on synthetic ratings, as a process of its own. Seconds are elapsed and processor
time of the command and its workers. Memory is the most that they took together; what they share
counts once. A stage is what the command's progress says; trainings that run side by side have one
line, the last one's.
"""
CUT: Final = """\
Trainings end after one epoch or round here, which changes neither memory nor the other stages
(`--whole` has all of them). What whole ones take is added in the last line, by the number of their
epochs and rounds.
"""
# Of whole trainings: the default regime of mf, and alternating least squares.
ROUNDS: Final = {"train": 25, "train ials": 15}
OF_CASE: Final = """\
### {title}

`vicinal evaluate --dataset {shape} {arguments}`. {about}
"""


@dataclass
class Stage:
    """What happened between two lines of progress.

    elapsed  seconds; seconds: of processor time; peak: bytes
    """

    name: str
    elapsed: float = 0.0
    seconds: float = 0.0
    peak: int = 0

    def told(self) -> tuple[str, ...]:
        """A row of the table."""
        megabytes = f"{self.peak / MIB:,.0f}"
        return self.name, f"{self.elapsed:.0f}", f"{self.seconds:.0f}", megabytes


@final
class Watched:
    """A command that runs, and its stages so far."""

    def __init__(self, command: list[str]) -> None:
        self._process = Popen(command, stdout=PIPE, stderr=PIPE, text=True)
        self.stages = [Stage("read and split")]
        self.seconds = 0.0
        self._known: dict[int, float] = {}

    def run(self) -> str:
        """What it printed, when it has ended. Raises RuntimeError where it fails."""
        readers = [threading.Thread(target=read) for read in (self._follow, self._collect)]
        self.said: list[str] = []
        self.printed = ""
        for reader in readers:
            reader.start()
        last = time.monotonic()
        while self._process.poll() is None:
            peak, seconds = self._looked()
            now = time.monotonic()
            stage = self.stages[-1]
            stage.elapsed += now - last
            stage.seconds += max(seconds - self.seconds, 0.0)
            stage.peak = max(stage.peak, peak)
            self.seconds, last = max(seconds, self.seconds), now
            time.sleep(BETWEEN_LOOKS)
        for reader in readers:
            reader.join()
        if self._process.returncode:
            raise RuntimeError(f"it ended with {self._process.returncode}: {self.said[-1:]}")
        return self.printed

    def _follow(self) -> None:
        for line in _lines(self._process.stderr):
            self.said.append(line)
            if line.endswith(" …"):
                self._begin(line.removesuffix(" …"))
            elif ": done (" in line:
                self._begin(f"after {line.partition(': done')[0]}")

    def _begin(self, name: str) -> None:
        ended = self.stages[-1]
        progress(f"{' '.join(ended.told())} (stage, elapsed s, processor s, MiB)")
        self.stages.append(Stage(name))

    def _collect(self) -> None:
        self.printed = "\n".join(_lines(self._process.stdout))

    def _looked(self) -> tuple[int, float]:
        """Bytes of the whole family now, and its processor seconds so far."""
        size = 0
        for pid in {each.pid for each in family(self._process.pid)}:
            with suppress(OSError, ValueError):
                self._known[pid] = process_status(pid).seconds
                size += _pss(pid)
        return size, sum(self._known.values())


def _lines(stream: IO[str] | None) -> Iterator[str]:
    assert stream is not None
    for line in stream:
        yield line.rstrip("\n")


def _pss(pid: int) -> int:
    """Proportional set size of a process, bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def section(cases: Sequence[Case], *, whole: bool) -> Section:
    """One run of each, with a line for each bound that it misses."""
    parts, figures, missed = [INTRODUCTION, *([] if whole else [CUT])], {}, []
    for case in cases:
        text, found = _evaluated(case, whole=whole)
        parts.append(text)
        figures[case.title] = found
        if whole and case.most_minutes and found["elapsed"] > 60 * case.most_minutes:
            missed.append(f"{case.title}: {found['elapsed']:.0f} s, not {60 * case.most_minutes:g}")
        if case.most_mib and found["peak"] > case.most_mib * MIB:
            missed.append(f"{case.title}: {found['peak'] / MIB:,.0f} MiB, not {case.most_mib:,}")
    return Section("\n".join(parts), figures, missed)


def _evaluated(case: Case, *, whole: bool) -> tuple[str, dict[str, float]]:
    """Its text; seconds and bytes."""
    with TemporaryDirectory(prefix="vicinal-") as folder:
        out = Path(folder) / "out.json"
        arguments = ("evaluate", "--dataset", case.shape, *case.arguments)
        progress(" ".join(arguments))
        start = time.monotonic()
        module = "vicinal" if whole else "benchmarks.scale.cut_short"
        files = ("--store", f"{folder}/store", "--json", str(out))
        watched = Watched(module_command(module, *arguments, *files))
        watched.run()
        elapsed = time.monotonic() - start
        told: dict[str, Any] = json.loads(out.read_bytes())
    peak = max(stage.peak for stage in watched.stages)
    figures = {"elapsed": elapsed, "seconds": watched.seconds, "peak": float(peak)}
    stages = [*watched.stages, Stage("together", elapsed, watched.seconds, peak)]
    rows = [each.told() for each in stages if each.peak or not each.name.startswith("after ")]
    if not whole:
        seconds = watched.seconds + sum(map(_left_out, watched.stages))
        rows.append(("with whole trainings, about", "", f"{seconds:.0f}", ""))
        figures["whole_seconds"] = seconds
    about = OF_CASE.format(
        title=case.title, shape=case.shape, arguments=" ".join(case.arguments), about=case.about
    )
    result = (
        f"Hit ratio@50 undefended {told['hit_ratio']['undefended']:.3f}, defended "
        f"{told['hit_ratio']['defended']:.3f}; accuracy@50 defended "
        f"{told['accuracy']['defended']:.3f}. {told['users']} users were asked; {told['fakes']} "
        "fakes were added."
    )
    notes = "".join(f"\n\nIt says: {each}." for each in told["notes"])
    heads = ("stage", "elapsed, s", "processor, s", "memory, MiB")
    return f"{about}\n{table(heads, rows)}\n\n{result}{notes}\n", figures


def _left_out(stage: Stage) -> float:
    """Processor seconds of the other epochs or rounds of a training."""
    name = stage.name.removesuffix(" on clean ratings")
    return (ROUNDS.get(name, 1) - 1) * stage.seconds


def command(
    short: Annotated[bool, typer.Option(help="the small part that `make bench` runs")] = False,
    shape: Annotated[str | None, typer.Option(help="ml-10m or ml-25m; default: both")] = None,
    whole: Annotated[bool, typer.Option(help="whole trainings")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write figures")] = None,
) -> None:
    """Print the section."""
    if shape is not None and shape not in CASES:
        raise typer.BadParameter(f"choose one of {', '.join(CASES)}", param_hint="--shape")
    chosen = [case for name, case in CASES.items() if shape in (None, name)]
    show(section([SHORT] if short else chosen, whole=whole), json_file)


if __name__ == "__main__":
    # What it reads stages from.
    os.environ.pop(QUIET, None)
    typer.run(command)
