"""Results of a latency laboratory that follow its formulas exactly, for tests of what comes after.

A server of one core takes 10 ms for a server-side answer and 1 ms for a package, a device 20 ms
with a whole core; nothing varies.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sims.latency.measure import CALLS
from sims.latency.model import Queue, answer_quantile
from sims.latency.plan import Plan, Scenario
from sims.latency.results import CallResult, ScenarioResult

SERVICE_MS = {"server": 10.0, "device": 1.0}
OWN_MS = 20.0
MODEL_BYTES = 1000
SECONDS = 100.0
SIZES: dict[str, dict[str, float]] = {
    "server": {"sent": 80, "received": 130},
    "device": {"sent": 80, "received": 5000},
}


def results_of(plan: Plan, *, answers: int = 200) -> list[ScenarioResult]:
    return [
        result_of(scenario, answers)
        for scenarios in plan.servers().values()
        for scenario in scenarios
    ]


def result_of(scenario: Scenario, answers: int) -> ScenarioResult:
    found: dict[str, Any] = {}
    if scenario.kind == "capacity":
        for side, call in CALLS.items():
            rate = 1000 / SERVICE_MS[side]
            found[call] = asked(side, rate)
            found[f"calm {call}"] = asked(side, rate, [SERVICE_MS[side]] * 100)
        return measured(scenario, asked=found)
    if scenario.kind == "book":
        return measured(scenario, milliseconds=[1.5] * answers, processor=[1.4] * answers)
    if scenario.kind == "cold":
        return measured(scenario, milliseconds=[100.0, 110.0], model_bytes=MODEL_BYTES)
    rate = scenario.rate or scenario.load * 1000 / SERVICE_MS["server"]
    if scenario.side == "device":
        total = OWN_MS / scenario.share + SERVICE_MS["device"]
        found = {"computed": [OWN_MS] * answers, "processor": [OWN_MS] * answers}
    else:
        queue = Queue(1, rate, SERVICE_MS["server"] / 1000)
        total = 1000 * answer_quantile(np.array([queue.service]), queue, 0.5)
    call = CALLS[scenario.side]
    return measured(
        scenario, asked={call: asked(scenario.side, rate)}, milliseconds=[total] * answers, **found
    )


def asked(side: str, rate: float, milliseconds: Sequence[float] = ()) -> CallResult:
    answered = round(rate * SECONDS)
    return CallResult(
        milliseconds=list(milliseconds),
        answered=answered,
        elapsed=SECONDS,
        processor_seconds=answered * SERVICE_MS[side] / 1000,
        sent=SIZES[side]["sent"],
        received=SIZES[side]["received"],
    )


def measured(scenario: Scenario, **found: Any) -> ScenarioResult:
    return ScenarioResult.of(scenario, cores=1, workers=1, apart=True, users=40, **found)
