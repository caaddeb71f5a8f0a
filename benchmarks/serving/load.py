"""`vicinal serve` under load: `python -m benchmarks.serving.load`, which prints a section.

Synthetic ratings of MovieLens 1M's size, preset paper, the call Recommend. The saturation rate is
what callers get who ask again as soon as they are answered; then requests come at random times,
at 60 % of that rate and at three times it. Load comes from a process of its own, on the same
machine: it takes its share of the cores.
"""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.report import Section, progress, run, table
from benchmarks.serving.load_server import Histograms, Server, quantile, started
from client.link.connection import Connection
from common.processes import core_count, module_command
from sims.load.generator import Load

PRESET: Final = "paper"
# Keeps trained models for the next time.
FOLDER: Final = Path("runs/load")
MODEST, OVERLOAD = 0.6, 3.0
# The phases of which latencies are told.
LOADS: Final = ("60 %", "3×")
SPEED_HEADS: Final = ("model", "saturation, answers/s", "load", "asked/s", "refused", "lost")
TIME_HEADS: Final = (
    *("model", "load", "calls", "client: p50, ms", "p99", "p99.9"),
    *("front: p50, ms", "p99", "client late: p50, ms", "p99"),
)
WORK_HEADS: Final = ("model", "load", "workers, ms a request", "front", "client")
MEMORY_HEADS: Final = ("model", "process", "RSS, MiB", "under load", "at the end", "PSS at the end")


@dataclass(frozen=True)
class Plan:
    """How long each phase takes, in seconds.

    requests  that the first model is asked in all, before its memory is looked at again
    """

    dataset: str
    models: tuple[str, ...]
    warm: float
    saturation: float
    modest: float
    overload: float
    requests: int


FULL: Final = Plan("synthetic:6040x3706x1000209", ("mf", "autorec"), 5, 20, 60, 30, 100_000)
SHORT: Final = Plan("synthetic:943x1682x100000", ("mf",), 1, 3, 5, 3, 0)


@dataclass(frozen=True)
class Phase:
    """Calls of one phase; latencies in milliseconds, from when a request was due.

    answer_front, refusal_front  what the front timed of the same calls, from when its code was
                                 called until it had the reply
    late                         by which the client itself sent requests too late
    lost                         calls without an answer or a refusal, by what they ended as
    processor                    ms of processor time a request: workers, front, client
    """

    asked: int
    asked_per_second: float
    answered: int
    refused: int
    lost: dict[str, int]
    answer_ms: dict[str, float]
    answer_front_ms: dict[str, float]
    refusal_ms: dict[str, float]
    refusal_front_ms: dict[str, float]
    late_ms: dict[str, float]
    processor_ms: dict[str, float]


def asked(load: Load, server: Server) -> Phase:
    """Let a process of its own ask."""
    stages, spent = server.stages(), server.processor_seconds()
    done = subprocess.run(
        module_command("sims.load.generator"),
        input=json.dumps(asdict(load)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    later, now = server.stages(), server.processor_seconds()
    found: dict[str, Any] = json.loads(done.stdout.removeprefix("ready\n"))
    seconds: dict[str, list[float]] = found["seconds"]
    answers, refusals = seconds.pop("OK", []), seconds.pop("RESOURCE_EXHAUSTED", [])
    lost = {status: len(times) for status, times in seconds.items()}
    count = len(answers) + len(refusals) + sum(lost.values())
    processor = {who: now[who] - spent[who] for who in now} | {"client": found["processor"]}
    return Phase(
        count,
        count / load.seconds,
        len(answers),
        len(refusals),
        lost,
        percentiles(answers),
        front_percentiles(stages, later, "whole"),
        percentiles(refusals),
        front_percentiles(stages, later, "refused"),
        percentiles(found["late"]),
        {who: 1000 * time / max(1, count) for who, time in processor.items()},
    )


def front_percentiles(before: Histograms, after: Histograms, stage: str) -> dict[str, float]:
    """As `percentiles`, of what the front counted in its buckets."""
    return {f"p{part:g}": quantile(before, after, stage, part / 100) for part in (50, 99, 99.9)}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Of all samples, in milliseconds; NaN when there are none."""
    values = 1000 * np.array(seconds or [np.nan])
    return {f"p{part:g}": float(np.percentile(values, part)) for part in (50, 99, 99.9)}


def measure(plan: Plan, model: str, workers: int, folder: Path, *, requests: int) -> dict[str, Any]:
    """All phases of one model; at least so many requests in all."""
    progress(f"{model}: start the server")
    arguments = ["--dataset", plan.dataset, "--model", model, "--preset", PRESET]
    with started([*arguments, "--workers", str(workers), "--compiled"], folder) as server:
        with Connection(server.address) as connection:
            description = connection.describe()
        version, users = description.version, description.user_count

        def phase(what: str, seconds: float, rate: float = 0.0, *, seed: int) -> Phase:
            progress(f"{model}: {what}, {seconds:.0f} s")
            callers = 0 if rate else workers + 2
            load = Load(server.address, version, PRESET, users, seconds, rate, callers, seed)
            return asked(load, server)

        warm = phase("warm", plan.warm, seed=0)
        memory = [server.memory()]
        saturation = phase("saturation", plan.saturation, seed=1)
        rate = saturation.answered / plan.saturation
        modest = phase("60 %", plan.modest, MODEST * rate, seed=2)
        overload = phase("3×", plan.overload, OVERLOAD * rate, seed=3)
        memory.append(server.memory())
        phases = {"saturation": saturation, "60 %": modest, "3×": overload}
        left = requests - sum(one.asked for one in (warm, *phases.values()))
        if left > 0:
            phases["more"] = phase("more", left / rate, seed=4)
        memory.append(server.memory())
    return {
        "model": model,
        "workers": workers,
        "saturation": rate,
        "requests": warm.asked + sum(one.asked for one in phases.values()),
        "phases": {name: asdict(one) for name, one in phases.items()},
        "memory_mib": memory,
    }


def load_section(short: bool) -> Section:
    plan, workers, busy = SHORT if short else FULL, core_count(), os.getloadavg()[0]
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = [
        measure(plan, model, workers, FOLDER, requests=0 if place else plan.requests)
        for place, model in enumerate(plan.models)
    ]
    return Section(described(plan, workers, busy, results), {"models": results})


def described(plan: Plan, workers: int, busy: float, results: list[dict[str, Any]]) -> str:
    """The results as Markdown; `busy` is the load average of the minute before."""
    speeds, times, works, sizes = [], [], [], []
    for one in results:
        for load, phase in one["phases"].items():
            where = [one["model"], load]
            works.append([*where, *(f"{value:.2f}" for value in phase["processor_ms"].values())])
            if load in LOADS:
                lost, count = sum(phase["lost"].values()), phase["asked"]
                shares = [f"{part / max(1, count):.1%}" for part in (phase["refused"], lost)]
                speeds.append(
                    [one["model"], f"{one['saturation']:.1f}", load]
                    + [f"{phase['asked_per_second']:.0f}", *shares]
                )
                times += [
                    [*where, calls, *map(_figure, phase[f"{kind}_ms"].values())]
                    + [_figure(phase[f"{kind}_front_ms"][part]) for part in ("p50", "p99")]
                    + [_figure(phase["late_ms"][part]) for part in ("p50", "p99")]
                    for calls, kind in (("answers", "answer"), ("refusals", "refusal"))
                    if phase["refused" if kind == "refusal" else "answered"]
                ]
        before, under, after = one["memory_mib"]
        sizes += [
            [one["model"], name]
            + [f"{when[name]['Rss']:.0f}" for when in (before, under, after)]
            + [f"{after[name]['Pss']:.0f}"]
            for name in before
            if name in under and name in after
        ]
    asked_in_all = ", ".join(f"{one['model']} {one['requests']:,}" for one in results)
    return "\n".join(
        [
            "## Load",
            "",
            f"`{plan.dataset}`, preset {PRESET}, {workers} workers; {os.cpu_count()} cores "
            f"({platform.machine()}), load average {busy:.1f} in the minute before.",
            "",
            table(SPEED_HEADS, speeds),
            "",
            "Latencies count from when a request was due. The client's include how late the client",
            "itself was (last columns), sockets and gRPC. The front's are interpolated in the",
            "buckets of its histogram.",
            "",
            table(TIME_HEADS, times, texts=3),
            "",
            "Processor time for each request, answered or refused. Other work on the machine",
            "changes it less than latencies.",
            "",
            table(WORK_HEADS, works, texts=2),
            "",
            f"Memory after the start, after all loads, and at the end ({asked_in_all} requests):",
            "",
            table(MEMORY_HEADS, sizes, texts=2),
        ]
    )


def _figure(value: float) -> str:
    return f"{value:.1f}"


if __name__ == "__main__":
    run(load_section)
