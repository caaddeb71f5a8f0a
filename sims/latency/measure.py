"""Measure the cells of a plan, each at most once, with real processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from common.errors import VicinalError
from sims.grid.results import locked
from sims.latency.conditions import LOOPBACK, linked
from sims.latency.plan import Cell, Plan, Setting, SideName
from sims.latency.results import Asked, Measured, read_cell, write_cell
from sims.latency.servers import Server, generated, played, served
from sims.load.generator import Call
from sims.processes.children import Children, split_cores
from sims.processes.marked import interruptible
from sims.progress import Report

CALLS: Final[dict[SideName, Call]] = {"server": "Recommend", "device": "GetPackage"}
# Requests a second of the few whose answers go through a network and count.
PROBES: Final = 10.0
# Of the time of a cell, for the caches of server and libraries before anything counts.
WARM_SHARE: Final = 0.5
CAPACITY, CALM = "", "calm "


@dataclass(frozen=True)
class Bench:
    """A server, and what of the plan its cells need."""

    server: Server
    plan: Plan

    def closed(self, call: Call, callers: int, seconds: float, *, seed: int) -> Asked:
        """Callers who ask again as soon as they are answered, on loopback."""
        child = self.server.generator(
            {"call": call, "callers": callers, "seconds": seconds, "seed": seed}, name="load"
        )
        begun = self.server.processor_seconds()
        child.tell("go")
        asked = generated(child, seconds).asked
        spent = self.server.processor_seconds() - begun
        return asked.model_copy(update={"elapsed": seconds, "processor_seconds": spent})


def run_plan(plan: Plan, folder: Path, report: Report) -> list[Measured]:
    """Measure what `folder` has no result of; all results, in the plan's order.

    Raises InputError for a folder that is in use or damaged, VicinalError when a process fails.
    What was measured until then is kept, and no process is left.
    """
    servers = plan.servers()
    total = sum(map(len, servers.values()))
    results: list[Measured] = []
    with locked(folder), interruptible(), Children(folder) as children:
        for setting, cells in servers.items():
            for measured in _cells(plan, setting, cells, folder, children, report):
                results.append(measured)
                report("cells", len(results), total)
    return results


def _cells(
    plan: Plan,
    setting: Setting,
    cells: Sequence[Cell],
    folder: Path,
    children: Children,
    report: Report,
) -> Iterator[Measured]:
    there = {cell: read_cell(folder, cell) for cell in cells}
    if all(there.values()):
        yield from (one for one in there.values() if one is not None)
        return
    report(f"server {setting.label}", 0, 1)
    with served(children, setting, folder, split_cores()) as server:
        bench = Bench(server, plan)
        for side, call in CALLS.items():
            bench.closed(call, server.workers, WARM_SHARE * plan.seconds, seed=1)
            report(f"server {setting.label}", int(side == "device"), 1)
        capacity: Measured | None = None
        for cell in cells:
            measured = there[cell]
            if measured is None:
                measured = MEASURES[cell.kind](bench, cell, capacity)
                write_cell(folder, cell, measured)
            if cell.kind == "capacity":
                capacity = measured
            yield measured


def saturation(capacity: Measured, side: SideName) -> float:
    """Answers a second that callers got who ask at once again."""
    asked = capacity.asked[CAPACITY + CALLS[side]]
    return asked.answered / asked.elapsed


def _capacity(bench: Bench, cell: Cell, _capacity: Measured | None) -> Measured:
    """Both sides: as many answers as there can be, and answers one at a time."""
    seconds, workers = bench.plan.seconds, bench.server.workers
    asked = {}
    for call in CALLS.values():
        asked[CAPACITY + call] = bench.closed(call, workers + 2, seconds, seed=2)
        asked[CALM + call] = bench.closed(call, 1, seconds, seed=3)
        if not asked[CAPACITY + call].answered:
            raise VicinalError(f"{cell.setting.label}: the server answered no {call}")
    return _measured(bench, cell, asked=asked)


def _load(bench: Bench, cell: Cell, capacity: Measured | None) -> Measured:
    """One side among other requests of its kind; the few that count are part of the load."""
    assert capacity is not None, "a plan measures the capacity first"
    rate = cell.rate or cell.load * saturation(capacity, "server")
    probes = min(PROBES, rate / 2)
    if cell.side == "server" and cell.network == LOOPBACK:
        probes = 0.0  # the others' answers are as good
    seconds = _duration(bench.plan, probes) if probes else bench.plan.seconds
    call, server = CALLS[cell.side], bench.server
    load = {"call": call, "seconds": seconds, "rate": rate - probes, "seed": 4}
    child = server.generator(load, name="load")
    with linked(server.children, server.address, cell.network, server.cores.others) as address:
        if not probes:
            begun = server.processor_seconds()
            child.tell("go")
            asked = generated(child, seconds).asked
            spent = server.processor_seconds() - begun
            update = {"elapsed": seconds, "processor_seconds": spent, "milliseconds": []}
            return _measured(
                bench,
                cell,
                asked={call: asked.model_copy(update=update)},
                milliseconds=asked.milliseconds,
            )
        prober = _prober(bench, cell, probes, seconds, address)
        begun = server.processor_seconds()
        child.tell("go")
        found = prober()
        asked = generated(child, seconds).asked
        spent = server.processor_seconds() - begun
    update = {
        "answered": asked.answered + len(found["milliseconds"]),
        "elapsed": seconds,
        "processor_seconds": spent,
        "milliseconds": asked.milliseconds,
    }
    return _measured(bench, cell, asked={call: asked.model_copy(update=update)}, **found)


def _prober(
    bench: Bench, cell: Cell, rate: float, seconds: float, address: str
) -> Callable[[], dict[str, Any]]:
    """A ready process of those who count, as a function that lets it begin and tells what came."""
    server = bench.server
    if cell.side == "server":
        load = {"call": CALLS["server"], "seconds": seconds, "rate": rate, "seed": 5}
        child = server.generator(load, name="probes", address=address)

        def ask() -> dict[str, Any]:
            child.tell("go")
            found = generated(child, seconds).asked
            return {"milliseconds": found.milliseconds, "failed": found.refused + found.other}

        return ask
    return _devices(bench, cell, address, rate=rate, seconds=seconds, most=10**6)


def _devices(bench: Bench, cell: Cell, address: str, **job: Any) -> Callable[[], dict[str, Any]]:
    child = bench.server.device(
        {**job, "seed": 6, "cold": cell.kind == "cold"}, name="device", address=address
    )

    def ask() -> dict[str, Any]:
        # Cold ones come one after the other, however long each takes.
        limit = job["seconds"] + 60 * (1 + bench.plan.colds)
        found = played(child, cell.share, limit)
        if not found.answers:
            raise VicinalError(f"{cell.setting.label}: no device got an answer in {limit:.0f} s")
        return {
            "milliseconds": [_milli(one.total) for one in found.answers],
            "computed": [_milli(one.computed) for one in found.answers],
            "processor": [_milli(one.processor) for one in found.answers],
            "model_bytes": float(np.mean([one.model_bytes for one in found.answers])),
            "failed": found.failed,
            "late": found.late,
        }

    return ask


def _cold(bench: Bench, cell: Cell, _capacity: Measured | None) -> Measured:
    """Devices without connection and model, one after the other, nobody else there."""
    server = bench.server
    with linked(server.children, server.address, cell.network, server.cores.others) as address:
        found = _devices(bench, cell, address, rate=PROBES, seconds=1e6, most=bench.plan.colds)()
    return _measured(bench, cell, **found)


MEASURES: Final[dict[str, Callable[[Bench, Cell, Measured | None], Measured]]] = {
    "capacity": _capacity,
    "load": _load,
    "cold": _cold,
}


def _duration(plan: Plan, probes: float) -> float:
    """Long enough for `least` probes, if that is not too long."""
    return min(plan.longest, max(plan.seconds, plan.least / probes))


def _milli(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _measured(bench: Bench, cell: Cell, **found: Any) -> Measured:
    server = bench.server
    return Measured.of(
        cell,
        cores=len(server.cores.server),
        workers=server.workers,
        apart=server.cores.apart,
        users=server.users,
        **found,
    )
