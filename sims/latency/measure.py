"""Measure the scenarios of a plan, each at most once, with real processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from common.errors import VicinalError
from sims.latency.conditions import LOOPBACK, linked
from sims.latency.plan import Plan, Scenario, Setting, SideName
from sims.latency.results import CallResult, ScenarioResult, read_scenario, write_scenario
from sims.latency.servers import Server, device_timings, load_result, served
from sims.load.generator import Call
from sims.processes.children import Children, split_cores
from sims.processes.lock import locked
from sims.processes.marked import interruptible
from sims.progress import Report

CALLS: Final[dict[SideName, Call]] = {"server": "Recommend", "device": "GetPackage"}
# Requests a second of the few whose answers go through a network and count.
PROBES: Final = 10.0
# The same of answers from a book, which take no time of a server's.
BOOK_RATE: Final = 40.0
# Of the time of a scenario, for the caches of server and libraries before anything counts.
WARM_SHARE: Final = 0.5
CAPACITY, CALM = "", "calm "


@dataclass(frozen=True)
class Testbed:
    """A server, and the plan that is measured on it."""

    server: Server
    plan: Plan

    def closed(self, call: Call, callers: int, seconds: float, *, seed: int) -> CallResult:
        """Callers who ask again as soon as they are answered, on loopback."""
        child = self.server.generator(
            {"call": call, "callers": callers, "seconds": seconds, "seed": seed}, name="load"
        )
        begun = self.server.processor_seconds()
        child.tell("go")
        asked = load_result(child, seconds).asked
        spent = self.server.processor_seconds() - begun
        return asked.model_copy(update={"elapsed": seconds, "processor_seconds": spent})


def run_plan(plan: Plan, folder: Path, report: Report) -> list[ScenarioResult]:
    """Measure what `folder` has no result of; all results, in the plan's order.

    Raises InputError for a folder that is in use or damaged, VicinalError when a process fails.
    What was measured until then is kept, and no process is left.
    """
    servers = plan.servers()
    total = sum(map(len, servers.values()))
    results: list[ScenarioResult] = []
    with locked(folder), interruptible(), Children(folder) as children:
        for setting, scenarios in servers.items():
            for measured in _scenarios(plan, setting, scenarios, folder, children, report):
                results.append(measured)
                report("scenarios", len(results), total)
    return results


def _scenarios(
    plan: Plan,
    setting: Setting,
    scenarios: Sequence[Scenario],
    folder: Path,
    children: Children,
    report: Report,
) -> Iterator[ScenarioResult]:
    there = {scenario: read_scenario(folder, scenario) for scenario in scenarios}
    rows = [scenario for scenario in scenarios if scenario.kind != "book"]
    yield from _of_rows(plan, setting, rows, there, folder, children, report)
    books = [scenario for scenario in scenarios if scenario.kind == "book"]
    if all(there[scenario] for scenario in books):
        yield from (one for scenario in books if (one := there[scenario]) is not None)
        return
    report(f"server {setting.label}, book", 0, 1)
    with served(children, setting, folder, split_cores(), "book") as server:
        report(f"server {setting.label}, book", 1, 1)
        for scenario in books:
            measured = there[scenario] or _book(Testbed(server, plan), scenario)
            write_scenario(folder, scenario, measured)
            yield measured


def _of_rows(
    plan: Plan,
    setting: Setting,
    scenarios: Sequence[Scenario],
    there: Mapping[Scenario, ScenarioResult | None],
    folder: Path,
    children: Children,
    report: Report,
) -> Iterator[ScenarioResult]:
    if all(there[scenario] for scenario in scenarios):
        yield from (one for scenario in scenarios if (one := there[scenario]) is not None)
        return
    report(f"server {setting.label}", 0, 1)
    with served(children, setting, folder, split_cores()) as server:
        testbed = Testbed(server, plan)
        for side, call in CALLS.items():
            testbed.closed(call, server.workers, WARM_SHARE * plan.seconds, seed=1)
            report(f"server {setting.label}", int(side == "device"), 1)
        capacity: ScenarioResult | None = None
        for scenario in scenarios:
            measured = there[scenario]
            if measured is None:
                measured = MEASURES[scenario.kind](testbed, scenario, capacity)
                write_scenario(folder, scenario, measured)
            if scenario.kind == "capacity":
                capacity = measured
            yield measured


def saturation(capacity: ScenarioResult, side: SideName) -> float:
    """Answers a second to callers that ask again as soon as they are answered."""
    asked = capacity.asked[CAPACITY + CALLS[side]]
    return asked.answered / asked.elapsed


def _capacity(
    testbed: Testbed, scenario: Scenario, _capacity: ScenarioResult | None
) -> ScenarioResult:
    """Both sides: as many answers as there can be, and answers one at a time."""
    seconds, workers = testbed.plan.seconds, testbed.server.workers
    asked = {}
    for call in CALLS.values():
        asked[CAPACITY + call] = testbed.closed(call, workers + 2, seconds, seed=2)
        asked[CALM + call] = testbed.closed(call, 1, seconds, seed=3)
        if not asked[CAPACITY + call].answered:
            raise VicinalError(f"{scenario.setting.label}: the server answered no {call}")
    return _measured(testbed, scenario, asked=asked)


def _load(testbed: Testbed, scenario: Scenario, capacity: ScenarioResult | None) -> ScenarioResult:
    """One side among other requests of its kind; the few that count are part of the load."""
    assert capacity is not None, "a plan measures the capacity first"
    rate = scenario.rate or scenario.load * saturation(capacity, "server")
    probes = min(PROBES, rate / 2)
    if scenario.side == "server" and scenario.network == LOOPBACK:
        probes = 0.0  # the others' answers are as good
    seconds = _duration(testbed.plan, probes) if probes else testbed.plan.seconds
    call, server = CALLS[scenario.side], testbed.server
    load = {"call": call, "seconds": seconds, "rate": rate - probes, "seed": 4}
    child = server.generator(load, name="load")
    with linked(server.children, server.address, scenario.network, server.cores.others) as address:
        if not probes:
            begun = server.processor_seconds()
            child.tell("go")
            asked = load_result(child, seconds).asked
            spent = server.processor_seconds() - begun
            update = {"elapsed": seconds, "processor_seconds": spent, "milliseconds": []}
            return _measured(
                testbed,
                scenario,
                asked={call: asked.model_copy(update=update)},
                milliseconds=asked.milliseconds,
            )
        prober = _prober(testbed, scenario, probes, seconds, address)
        begun = server.processor_seconds()
        child.tell("go")
        found = prober()
        asked = load_result(child, seconds).asked
        spent = server.processor_seconds() - begun
    update = {
        "answered": asked.answered + len(found["milliseconds"]),
        "elapsed": seconds,
        "processor_seconds": spent,
        "milliseconds": asked.milliseconds,
    }
    return _measured(testbed, scenario, asked={call: asked.model_copy(update=update)}, **found)


def _prober(
    testbed: Testbed, scenario: Scenario, rate: float, seconds: float, address: str
) -> Callable[[], dict[str, Any]]:
    """A ready process whose answers count: a function that starts it and gives what it measured."""
    server = testbed.server
    if scenario.side == "server":
        load = {"call": CALLS["server"], "seconds": seconds, "rate": rate, "seed": 5}
        child = server.generator(load, name="probes", address=address)

        def ask() -> dict[str, Any]:
            child.tell("go")
            found = load_result(child, seconds).asked
            return {"milliseconds": found.milliseconds, "failed": found.refused + found.other}

        return ask
    return _devices(testbed, scenario, address, rate=rate, seconds=seconds, most=10**6)


def _devices(
    testbed: Testbed, scenario: Scenario, address: str, **job: Any
) -> Callable[[], dict[str, Any]]:
    child = testbed.server.device(
        {**job, "seed": 6, "cold": scenario.kind == "cold"}, name="device", address=address
    )

    def ask() -> dict[str, Any]:
        # Cold ones come one after the other, however long each takes.
        limit = job["seconds"] + 60 * (1 + testbed.plan.colds)
        found = device_timings(child, scenario.share, limit)
        if not found.answers:
            raise VicinalError(
                f"{scenario.setting.label}: no device got an answer in {limit:.0f} s"
            )
        return {
            "milliseconds": [_milli(one.total) for one in found.answers],
            "computed": [_milli(one.computed) for one in found.answers],
            "processor": [_milli(one.processor) for one in found.answers],
            "model_bytes": float(np.mean([one.model_bytes for one in found.answers])),
            "failed": found.failed,
            "late": found.late,
        }

    return ask


def _cold(testbed: Testbed, scenario: Scenario, _capacity: ScenarioResult | None) -> ScenarioResult:
    """Devices without connection and model, one after the other, without other load."""
    server = testbed.server
    with linked(server.children, server.address, scenario.network, server.cores.others) as address:
        found = _devices(
            testbed, scenario, address, rate=PROBES, seconds=1e6, most=testbed.plan.colds
        )()
    return _measured(testbed, scenario, **found)


def _book(testbed: Testbed, scenario: Scenario) -> ScenarioResult:
    """Devices that have model and book, at random times; the server has nothing to do."""
    seconds = _duration(testbed.plan, BOOK_RATE)
    found = _devices(
        testbed, scenario, testbed.server.address, rate=BOOK_RATE, seconds=seconds, most=10**6
    )()
    return _measured(testbed, scenario, **found)


MEASURES: Final[dict[str, Callable[[Testbed, Scenario, ScenarioResult | None], ScenarioResult]]] = {
    "capacity": _capacity,
    "load": _load,
    "cold": _cold,
}


def _duration(plan: Plan, probes: float) -> float:
    """Long enough for `least` probes, if that is not too long."""
    return min(plan.longest, max(plan.seconds, plan.least / probes))


def _milli(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _measured(testbed: Testbed, scenario: Scenario, **found: Any) -> ScenarioResult:
    server = testbed.server
    return ScenarioResult.of(
        scenario,
        cores=len(server.cores.server),
        workers=server.workers,
        apart=server.cores.apart,
        users=server.users,
        **found,
    )
