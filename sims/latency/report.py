"""A plan's results put together: fits, comparisons, break-even, fleets; and the same as JSON."""

import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from sims.latency.conditions import LOOPBACK
from sims.latency.extrapolate import Extrapolated, extrapolate
from sims.latency.fit import SIDES, Comparison, Cost, Fit, compared, fit_of, offered, quantile
from sims.latency.model import median_size
from sims.latency.plan import Plan, Setting, SideName
from sims.latency.results import ScenarioResult
from sims.processes.workers import HERE, Workers

# What the project wants of the server's processor time, offloaded over server-side.
GOAL_RATIO: Final = 0.2
# The same of an answer from a book, with a whole core.
GOAL_BOOK_MS: Final = 2.0
# How far the rate reached may be from what processor time allows before both are said.
DISAGREE: Final = 1.25
PARTS: Final = {"p50": 0.5, "p99": 0.99}
# Where answers are compared with formulas: nearer to capacity waits have no bound.
CALM_ENOUGH: Final = 0.9

# What each key of `vicinal latency --json` means; `[]` stands for the parts of a list. Null where
# there is nothing to say: too few answers, or a server that cannot keep up.
KEYS: Final = {
    "plan": "quick, full, or chosen: by options",
    "machine.system": "where it was measured",
    "machine.cores": "how many the machine has",
    "machine.python": "its version",
    "goal_processor_ratio": "what `processor_ratio` should be at most",
    "settings[].dataset": "name, shape or file",
    "settings[].model": "the recommender",
    "settings[].preset": "of the vicinal defense",
    "settings[].k": "neighbors that were asked for; null: the preset's",
    "settings[].reading": "options of reading that were given, by name",
    "settings[].neighbors": "neighbors in a neighborhood",
    "settings[].server_cores": "that the server had",
    "settings[].server_processor_seconds_per_1000.SIDE": "of the server, for 1000 answers",
    "settings[].server_processor_seconds_saved_per_1000": "by offloading 1000 answers",
    "settings[].processor_ratio": "the server's processor time for an offloaded answer, as a share "
    "of that for a server-side one",
    "settings[].saturation.SIDE": "answers a second at most",
    "settings[].saturation_by_processor_time.SIDE": "answers a second that processor time allows",
    "settings[].disagreements": "sentences, where the two before are far apart",
    "settings[].bytes.SIDE.up": "of a request, mean",
    "settings[].bytes.SIDE.down": "of its answer, mean",
    "settings[].device_processor_ms": "processor time of an answer on the device, mean",
    "settings[].model_error.p50": "median error of the formulas' p50, as a share",
    "settings[].model_error.p99": "the same of p99",
    "settings[].measured[].side": "who answers: server or device",
    "settings[].measured[].network": "between the two",
    "settings[].measured[].share": "of a core that the device has",
    "settings[].measured[].rate": "requests a second",
    "settings[].measured[].utilization": "the load as a share of what the server can answer",
    "settings[].measured[].fitted": "whether the device's own time was taken from this scenario",
    "settings[].measured[].answers": "how many were timed",
    "settings[].measured[].ms.p50": "from question to list, milliseconds, median",
    "settings[].measured[].ms.p99": "99th percentile; null for fewer than 100 answers",
    "settings[].measured[].largest_ms": "of the slowest answer",
    "settings[].measured[].model_ms.p50": "by the formulas",
    "settings[].measured[].model_ms.p99": "by the formulas",
    "settings[].measured[].in_flight": "questions under way at a time, mean",
    "settings[].measured[].refused": "requests of the load that a full server refused",
    "settings[].measured[].failed": "questions and requests that ended in another way",
    "settings[].measured[].begun_late": "questions of a device that was still busy",
    "settings[].measured[].generator_late_p99_ms": "how late the load itself was",
    "settings[].cold[].network": "of devices that do not have the model yet",
    "settings[].cold[].share": "of a core that the device has",
    "settings[].cold[].answers": "how many were timed",
    "settings[].cold[].p50_ms": "from question to list, the model's transfer included",
    "settings[].cold[].model_ms": "by the formulas",
    "settings[].cold[].model_bytes": "received for the model version",
    "settings[].books[].share": "of a core that a device has, which answers from a book",
    "settings[].books[].answers": "how many were timed",
    "settings[].books[].ms.p50": "from question to list, milliseconds, median",
    "settings[].books[].ms.p99": "99th percentile; null for fewer than 100 answers",
    "settings[].books[].rows_ms": "the same device's median from packages, in the same run, at the "
    "least load and without a network; null where that was not measured",
    "settings[].books[].device_processor_ms": "processor time of an answer, mean",
    "settings[].break_even[].network": "between server and device",
    "settings[].break_even[].share": "of a core that the device has",
    "settings[].break_even[].rate.p50": "requests a second from which on the device's median is "
    "not higher; 0: always, null: never",
    "settings[].break_even[].rate.p99": "the same for the 99th percentile",
    "settings[].break_even[].extrapolated.p50": "whether that rate lies beyond all measured ones",
    "settings[].break_even[].extrapolated.p99": "the same for the 99th percentile",
    "settings[].fleets[].side": "who answers",
    "settings[].fleets[].devices": "how many there are",
    "settings[].fleets[].interval": "seconds between two questions of one",
    "settings[].fleets[].network": "between server and device",
    "settings[].fleets[].share": "of a core that the device has",
    "settings[].fleets[].rate": "requests a second",
    "settings[].fleets[].cores": "that the server needs",
    "settings[].fleets[].p50": "seconds from question to list, median",
    "settings[].fleets[].p99": "seconds, 99th percentile",
    "settings[].fleets[].bytes_a_second": "to and from all devices, without model versions",
    "settings[].fleets[].extrapolated": "true: all of it follows from formulas",
}


@dataclass(frozen=True)
class BreakEven:
    """Where offloading begins to win, by the formulas.

    rate   requests a second, by p50 and p99; 0: always; None: never below the server's capacity
    """

    network: str
    share: float
    rate: dict[str, float | None]


@dataclass(frozen=True)
class SettingReport:
    """Of one setting: fit, measurements beside predictions, break-even and fleets.

    cold   measured results of cold devices
    books  the same of devices that answer from a book
    most   the largest rate that was measured: beyond it all is extrapolated
    """

    setting: Setting
    fit: Fit
    rows: list[Comparison]
    cold: list[ScenarioResult]
    break_even: list[BreakEven]
    fleets: list[Extrapolated]
    most: float
    books: list[ScenarioResult]

    @property
    def stem(self) -> str:
        """What its files are named after."""
        setting = self.setting
        words = f"{setting.dataset} {setting.model} {setting.preset} k{setting.vicinal.neighbors}"
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")

    def error(self, part: str) -> float:
        """Median size of the formulas' relative errors where the server keeps up."""
        rows = [row for row in self.rows if row.utilization < CALM_ENOUGH and not row.fitted]
        return median_size([row.error_p50 if part == "p50" else row.error_p99 for row in rows])


def setting_reports(
    plan: Plan,
    results: Sequence[ScenarioResult],
    *,
    interval: float,
    workers: Workers = HERE,
) -> list[SettingReport]:
    """Every setting whose load was measured, in the plan's order, fitted by workers.

    `interval` is the seconds between two questions of a device, for fleets.
    """
    calls = [(setting, interval) for setting in plan.servers()]
    return workers.each(_setting_report, calls, arguments=(results,))


def _setting_report(
    measured: Sequence[ScenarioResult], setting: Setting, interval: float
) -> SettingReport:
    results = [one for one in measured if one.setting == setting]
    fit = fit_of(setting, results)
    rows = compared(fit, results)
    devices = [row.measured for row in rows if row.measured.side == "device"]
    places = list(dict.fromkeys((one.network, one.share) for one in devices))
    lines = [
        BreakEven(
            network,
            share,
            {name: fit.break_even(network, share, part) for name, part in PARTS.items()},
        )
        for network, share in places
    ]
    return SettingReport(
        setting,
        fit,
        rows,
        [one for one in results if one.kind == "cold"],
        lines,
        [one for place in places for one in extrapolate(fit, *place, interval=interval)],
        max((offered(row.measured) for row in rows), default=0.0),
        [one for one in results if one.kind == "book"],
    )


def as_json(plan: Plan, parts: Sequence[SettingReport]) -> dict[str, Any]:
    """Everything but single answers; what is extrapolated says so."""
    return {
        "plan": plan.name,
        "machine": machine(),
        "goal_processor_ratio": GOAL_RATIO,
        "settings": [_setting_json(part) for part in parts],
    }


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _setting_json(part: SettingReport) -> dict[str, Any]:
    fit = part.fit
    return {
        **asdict(part.setting),
        "reading": part.setting.reading.told(),
        "neighbors": part.setting.vicinal.neighbors,
        "server_cores": fit.cores,
        "server_processor_seconds_per_1000": {side: 1000 * fit.spent[side] for side in SIDES},
        "server_processor_seconds_saved_per_1000": 1000
        * (fit.spent["server"] - fit.spent["device"]),
        "processor_ratio": fit.processor_ratio,
        "saturation": fit.saturated,
        "saturation_by_processor_time": {side: one.allowed for side, one in fit.costs.items()},
        "disagreements": disagreements(fit.costs),
        "bytes": {side: {"up": fit.sent[side], "down": fit.received[side]} for side in SIDES},
        "device_processor_ms": _number(1000 * fit.processor),
        "model_error": {name: _number(part.error(name)) for name in PARTS},
        "measured": [_row_json(row) for row in part.rows],
        "cold": [_cold_json(fit, one) for one in part.cold],
        "books": [_book_json(part, one) for one in part.books],
        "break_even": [
            {
                "network": one.network,
                "share": one.share,
                "rate": one.rate,
                "extrapolated": {name: beyond(rate, part.most) for name, rate in one.rate.items()},
            }
            for one in part.break_even
        ],
        "fleets": [
            {**{key: _number(value) for key, value in asdict(one).items()}, "extrapolated": True}
            for one in part.fleets
        ],
    }


def disagreements(costs: Mapping[SideName, Cost]) -> list[str]:
    """A line for each side whose rate reached is not what its processor time allows."""
    lines = []
    for side, one in costs.items():
        reached, allowed = one.reached, one.allowed
        if max(reached / allowed, allowed / reached) < DISAGREE:
            continue
        why = "the machine was busy with other things, or the server waited"
        if reached > allowed:
            why = "an answer of a full server takes less than one of a calm server"
        lines.append(
            f"{side}: {reached:.0f} req/s reached where processor time says {allowed:.0f}: {why}."
        )
    return lines


def beyond(rate: float | None, most: float) -> bool:
    """Whether a break-even lies where nothing was measured."""
    return rate is not None and rate > most


def _row_json(row: Comparison) -> dict[str, Any]:
    one, asked = row.measured, row.measured.load_asked
    return {
        "side": one.side,
        "network": one.network,
        "share": one.share,
        "rate": offered(one),
        "utilization": row.utilization,
        "fitted": row.fitted,
        "answers": len(one.milliseconds),
        "ms": {"p50": 1000 * row.p50, "p99": _number(1000 * row.p99)},
        "largest_ms": max(one.milliseconds, default=None),
        "model_ms": {
            "p50": _number(1000 * row.predicted_p50),
            "p99": _number(1000 * row.predicted_p99),
        },
        "in_flight": _number(offered(one) * float(one.seconds.mean()) if one.milliseconds else 0.0),
        "refused": asked.refused,
        "failed": one.failed + asked.other,
        "begun_late": one.late,
        "generator_late_p99_ms": asked.late_p99,
    }


def _cold_json(fit: Fit, one: ScenarioResult) -> dict[str, Any]:
    return {
        "network": one.network,
        "share": one.share,
        "answers": len(one.milliseconds),
        "p50_ms": 1000 * quantile(one.seconds, 0.5),
        "model_ms": 1000 * fit.first_seconds(one.network, one.model_bytes),
        "model_bytes": one.model_bytes,
    }


def rows_seconds(part: SettingReport, share: float) -> float:
    """Of a device with so much of a core that asks for packages: its median at the least load.

    Without a network between. NaN where nothing was measured.
    """
    near = [
        row
        for row in part.rows
        if (row.measured.side, row.measured.share) == ("device", share)
        and row.measured.network == LOOPBACK
    ]
    return min(near, key=lambda row: offered(row.measured)).p50 if near else math.nan


def _book_json(part: SettingReport, one: ScenarioResult) -> dict[str, Any]:
    return {
        "share": one.share,
        "answers": len(one.milliseconds),
        "ms": {
            "p50": 1000 * quantile(one.seconds, 0.5),
            "p99": _number(1000 * quantile(one.seconds, 0.99)),
        },
        "rows_ms": _number(1000 * rows_seconds(part, one.share)),
        "device_processor_ms": float(np.mean(one.processor)),
    }


def _number(value: Any) -> Any:
    """JSON knows neither infinity nor NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
