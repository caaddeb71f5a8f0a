"""A started `vicinal serve` under load: `python -m benchmarks.load`, which prints a section.

Synthetic ratings of MovieLens 1M's size, preset paper, the call Recommend. The saturation rate is
what callers get who ask again as soon as they are answered; then requests come at random times,
at 60 % of that rate and at three times it. Load comes from a process of its own, on the same
machine: it takes its share of the cores.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.load_client import Load
from benchmarks.report import Section, progress, run, table
from client.connection import Connection
from common.errors import VicinalError
from server.front import core_count

PRESET: Final = "paper"
START_SECONDS: Final = 1800
# Keeps trained models for the next time.
FOLDER: Final = Path("runs/load")
MODEST, OVERLOAD = 0.6, 3.0
SPEED_HEADS: Final = (
    *("model", "saturation, answers/s", "60 %: p50, ms", "p99", "p99.9", "refused"),
    *("3×: p99 of answers, ms", "p99 of refusals", "refused", "asked/s"),
)
WORK_HEADS: Final = ("model", "workers, ms an answer", "front", "client")
MEMORY_HEADS: Final = ("model", "process", "RSS before, MiB", "after", "PSS before", "after")


@dataclass(frozen=True)
class Plan:
    """How long each phase takes, in seconds."""

    dataset: str
    models: tuple[str, ...]
    warm: float
    saturation: float
    modest: float
    overload: float


FULL: Final = Plan("synthetic:6040x3706x1000209", ("mf", "autorec"), 5, 20, 60, 30)
SHORT: Final = Plan("synthetic:943x1682x100000", ("mf",), 1, 3, 5, 3)


@dataclass(frozen=True)
class Phase:
    """Calls of one phase; latencies in milliseconds, from when a request was due.

    late_p99  by which the client itself sent requests too late
    """

    asked_per_second: float
    answered: int
    refused: int
    other: int
    answer_ms: dict[str, float]
    refusal_ms: dict[str, float]
    late_p99_ms: float

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.answered + self.refused + self.other)


def asked(load: Load) -> Phase:
    """Let a process of its own ask."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load_client"],
        input=json.dumps(asdict(load)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    seconds: dict[str, list[float]] = found["seconds"]
    answers, refusals = seconds.pop("OK", []), seconds.pop("RESOURCE_EXHAUSTED", [])
    other = sum(map(len, seconds.values()))
    return Phase(
        (len(answers) + len(refusals) + other) / load.seconds,
        len(answers),
        len(refusals),
        other,
        percentiles(answers),
        percentiles(refusals),
        percentiles(found["late"])["p99"],
    )


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Of all samples, in milliseconds; NaN when there are none."""
    values = 1000 * np.array(seconds or [np.nan])
    return {f"p{part:g}": float(np.percentile(values, part)) for part in (50, 99, 99.9)}


@contextmanager
def server(plan: Plan, model: str, workers: int, folder: Path) -> Iterator[tuple[int, str]]:
    """A `vicinal serve` process: its id and its address."""
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sims.cli", "serve", "--dataset", plan.dataset),
            *("--model", model, "--preset", PRESET, "--workers", str(workers), "--port", "0"),
            *("--port-file", str(port_file), "--store", str(folder / "store")),
            *("--metrics-port", "0"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise VicinalError("the server did not start; its last lines say why")
            time.sleep(0.1)
        yield process.pid, f"127.0.0.1:{int(port_file.read_text())}"
    finally:
        process.terminate()
        process.wait()


def memory(front: int) -> dict[str, dict[str, float]]:
    """RSS and PSS of the front and of each worker, in MiB. Shared pages count once in PSS."""
    pids = {"front": front}
    pids |= {f"worker {place}": pid for place, pid in enumerate(workers_of(front), start=1)}
    found = {}
    for name, pid in pids.items():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {key: int(value.split()[0]) for key, value in (line.split(":") for line in lines)}
        found[name] = {key: sizes[key] / 1024 for key in ("Rss", "Pss")}
    return found


def processor_seconds(front: int) -> dict[str, float]:
    """Processor time spent so far by the workers, by the front, and by clients that have ended."""

    def spent(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "workers": sum(map(spent, workers_of(front))),
        "front": spent(front),
        "client": ended.ru_utime + ended.ru_stime,
    }


def workers_of(front: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if parent == front and "server.worker" in command:
            found.append(int(folder.name))
    return sorted(found)


def measure(plan: Plan, model: str, workers: int, folder: Path) -> dict[str, Any]:
    """All phases of one model."""
    progress(f"{model}: start the server")
    with server(plan, model, workers, folder) as (front, address):
        with Connection(address) as connection:
            description = connection.describe()
        users = description.user_count

        def phase(what: str, seconds: float, rate: float = 0.0, *, seed: int) -> Phase:
            progress(f"{model}: {what}")
            callers = 0 if rate else workers + 2
            load = Load(address, description.version, PRESET, users, seconds, rate, callers, seed)
            return asked(load)

        phase("warm", plan.warm, seed=0)
        before = memory(front)
        start = processor_seconds(front)
        answered = phase("saturation", plan.saturation, seed=1).answered
        rate = answered / plan.saturation
        end = processor_seconds(front)
        modest = phase("60 %", plan.modest, MODEST * rate, seed=2)
        overload = phase("3×", plan.overload, OVERLOAD * rate, seed=3)
        after = memory(front)
    return {
        "model": model,
        "workers": workers,
        "saturation": rate,
        "processor_ms": {who: 1000 * (end[who] - start[who]) / answered for who in end},
        "modest": {**asdict(modest), "refused_share": modest.refused_share},
        "overload": {**asdict(overload), "refused_share": overload.refused_share},
        "memory_mib": {"before": before, "after": after},
    }


def load_section(short: bool) -> Section:
    plan, workers, busy = SHORT if short else FULL, core_count(), os.getloadavg()[0]
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = [measure(plan, model, workers, FOLDER) for model in plan.models]
    return Section(described(plan, workers, busy, results), {"models": results})


def described(plan: Plan, workers: int, busy: float, results: list[dict[str, Any]]) -> str:
    """The results as Markdown; `busy` is the load average of the minute before."""
    speeds, works, sizes = [], [], []
    for one in results:
        modest, overload = one["modest"], one["overload"]
        answers = modest["answer_ms"]
        values = (one["saturation"], answers["p50"], answers["p99"], answers["p99.9"])
        speeds.append(
            [one["model"], *(f"{value:.1f}" for value in values)]
            + [f"{modest['refused_share']:.1%}", f"{overload['answer_ms']['p99']:.1f}"]
            + [f"{overload['refusal_ms']['p99']:.1f}", f"{overload['refused_share']:.1%}"]
            + [f"{overload['asked_per_second']:.0f}"]
        )
        works.append([one["model"], *(f"{value:.2f}" for value in one["processor_ms"].values())])
        before, after = one["memory_mib"]["before"], one["memory_mib"]["after"]
        sizes += [
            [one["model"], name]
            + [f"{when[name][kind]:.0f}" for kind in ("Rss", "Pss") for when in (before, after)]
            for name in before
            if name in after
        ]
    late = max(one["modest"]["late_p99_ms"] for one in results)
    return "\n".join(
        [
            "## Load",
            "",
            f"`{plan.dataset}`, preset {PRESET}, {workers} workers; {os.cpu_count()} cores "
            f"({platform.machine()}), load average {busy:.1f} in the minute before. "
            f"99 % of the client's requests left within {late:.1f} ms of when they were due.",
            "",
            table(SPEED_HEADS, speeds),
            "",
            "Processor time at saturation, which other work on the machine hardly changes (the "
            "client's includes its start):",
            "",
            table(WORK_HEADS, works),
            "",
            table(MEMORY_HEADS, sizes, texts=2),
        ]
    )


if __name__ == "__main__":
    run(load_section)
