"""The formulas of sims.latency.model with the numbers of a measured setting.

Fitted are: how long an answer keeps a core of the server, from its capacity; how answers vary in an
empty server; bytes; a device's own time, from the scenario with the largest share of a core, on the
nearest network, at the least load; what a first answer takes more, from the nearest network.
Everything else is predicted. Processor time is measured over all scenarios.

An answer keeps a core for longer than its processor time where other programs have the cores, too,
and seems to keep it for less where many answers at once take less than few. What was measured on
such a machine is compared with the rate reached there; servers that were not measured are asked for
by processor time, on cores of their own.

Times are in seconds, rates in requests a second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sims.latency.conditions import LOOPBACK, carried, transfer, trip
from sims.latency.measure import CALLS, CALM, CAPACITY
from sims.latency.model import Queue, Side, break_even, relative_error
from sims.latency.plan import Setting, SideName
from sims.latency.results import CallResult, ScenarioResult

SIDES: Final[tuple[SideName, ...]] = ("server", "device")
# The largest of fewer answers says nothing of a p99.
ENOUGH_FOR_P99: Final = 100
THINNED: Final = 200
# Of a first answer: connect and hear the server's settings (1.5), describe, fetch, package.
FIRST_TRIPS: Final = 4.5


@dataclass(frozen=True)
class Cost:
    """What an answer of one side costs, as the table of costs has it.

    spent           processor seconds of the server
    reached         answers a second that were reached
    allowed         answers a second that processor time alone allows
    sent, received  bytes of a request, of its answer
    """

    spent: float
    reached: float
    allowed: float
    sent: float
    received: float


@dataclass(frozen=True)
class Fit:
    """One setting's numbers, by side where both have one.

    users      whom the server knew
    spent      processor seconds of the server for an answer
    service    seconds that an answer keeps a core of the server: cores over `saturated`, the
               answers a second that were reached; variation: of its length (Queue)
    calm       seconds of a call in an empty server, a sample
    sent       bytes of a request, received: of its answer
    own        seconds of a device with a whole core for an answer, a sample; empty if none was
               asked; processor: median of its processor time
    first      seconds that a device's first answer takes without any network; NaN if unknown
    """

    setting: Setting
    cores: int
    users: int
    spent: dict[SideName, float]
    service: dict[SideName, float]
    variation: dict[SideName, float]
    calm: dict[SideName, NDArray[np.float64]]
    saturated: dict[SideName, float]
    sent: dict[SideName, float]
    received: dict[SideName, float]
    own: NDArray[np.float64]
    processor: float
    first: float

    @property
    def processor_ratio(self) -> float:
        """Processor time of the server: an offloaded request over a server-side one."""
        return self.spent["device"] / self.spent["server"]

    @property
    def costs(self) -> dict[SideName, Cost]:
        """By side."""
        return {
            side: Cost(
                self.spent[side],
                self.saturated[side],
                self.cores / self.spent[side],
                self.sent[side],
                self.received[side],
            )
            for side in SIDES
        }

    def queue(self, side: SideName, *, cores: int | None = None) -> Queue:
        """With rate 0: of the measured machine, or of so many cores that nothing else uses."""
        if cores is None:
            return Queue(self.cores, 0.0, self.service[side], self.variation[side])
        return Queue(cores, 0.0, self.spent[side], self.variation[side])

    def side(
        self, side: SideName, network: str, share: float = 1.0, *, cores: int | None = None
    ) -> Side:
        """`share` of a core is the device's."""
        alone = self.calm[side] if side == "server" else self.own / share + self.spent[side]
        sizes = self.sent[side], self.received[side]
        alone = alone + carried(network, *sizes, count=len(alone))
        return Side(alone, self.queue(side, cores=cores))

    def break_even(self, network: str, share: float, part: float) -> float | None:
        """Requests a second from which on devices are not slower (latency_model.break_even)."""
        return break_even(self.side("server", network), self.side("device", network, share), part)

    def first_seconds(self, network: str, model_bytes: float) -> float:
        """A device's first answer, the model's transfer included; of what it does, the median."""
        carrying = transfer(network, model_bytes + self.received["device"])
        return FIRST_TRIPS * trip(network) + carrying + self.first


@dataclass(frozen=True)
class Comparison:
    """A scenario of load, measured and predicted by the formulas; seconds.

    p99 is NaN where too few answers were measured, errors where there is nothing to compare.
    fitted  a device's own time comes from this scenario
    """

    measured: ScenarioResult
    fitted: bool
    utilization: float
    p50: float
    p99: float
    predicted_p50: float
    predicted_p99: float

    @property
    def error_p50(self) -> float:
        return _error(self.predicted_p50, self.p50)

    @property
    def error_p99(self) -> float:
        return _error(self.predicted_p99, self.p99)


def fit_of(setting: Setting, results: Sequence[ScenarioResult]) -> Fit:
    """From all results of a setting, its capacity among them."""
    capacity = next(one for one in results if one.kind == "capacity")
    spent: dict[SideName, float] = {}
    service: dict[SideName, float] = {}
    variation: dict[SideName, float] = {}
    calm: dict[SideName, NDArray[np.float64]] = {}
    saturated: dict[SideName, float] = {}
    sent: dict[SideName, float] = {}
    received: dict[SideName, float] = {}
    for side in SIDES:
        call = CALLS[side]
        full = capacity.asked[CAPACITY + call]
        asked = [full, capacity.asked[CALM + call]]
        asked += [one.load_asked for one in results if one.kind == "load" and one.side == side]
        spent[side] = _processor_of_answer(asked)
        saturated[side] = full.answered / full.elapsed
        service[side] = capacity.cores / saturated[side]
        alone = np.array(capacity.asked[CALM + call].milliseconds) / 1000
        variation[side] = _variation(alone)
        calm[side] = thinned(alone)
        sent[side], received[side] = full.sent, full.received
    return Fit(
        setting,
        capacity.cores,
        capacity.users,
        spent,
        service,
        variation,
        calm,
        saturated,
        sent,
        received,
        *_own(results, spent["device"]),
        _first(results),
    )


def compared(fit: Fit, results: Sequence[ScenarioResult]) -> list[Comparison]:
    """Every scenario of load beside what is predicted of it."""
    found = []
    for one in results:
        if one.kind != "load":
            continue
        rate = offered(one)
        side = fit.side(one.side, one.network, one.share)
        enough = len(one.milliseconds) >= ENOUGH_FOR_P99
        found.append(
            Comparison(
                one,
                one is _calmest_device(results),
                rate / fit.saturated[one.side],
                quantile(one.seconds, 0.5),
                quantile(one.seconds, 0.99) if enough else math.nan,
                side.quantile(rate, 0.5),
                side.quantile(rate, 0.99),
            )
        )
    return found


def offered(measured: ScenarioResult) -> float:
    """Requests a second that came, those that were refused included."""
    asked = measured.load_asked
    return (asked.answered + asked.refused + asked.other) / asked.elapsed


def quantile(sample: NDArray[np.float64], part: float) -> float:
    """NaN of an empty sample."""
    return float(np.quantile(sample, part)) if len(sample) else math.nan


def _processor_of_answer(asked: Sequence[CallResult]) -> float:
    answered = sum(one.answered for one in asked)
    spent = sum(one.processor_seconds for one in asked)
    # A clock of hundredths may have seen nothing of a few short answers.
    return max(spent, 0.01) / max(answered, 1)


def _variation(sample: NDArray[np.float64]) -> float:
    """Squared coefficient of variation; the longest hundredth, when others disturbed, is cut."""
    if len(sample) < 2:
        return 0.0
    cut = np.minimum(sample, np.quantile(sample, 0.99))
    return float(cut.var() / cut.mean() ** 2)


def thinned(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """A sample of 200 at most with the same distribution: more make formulas slow, not better."""
    if len(sample) <= THINNED:
        return sample
    return np.quantile(sample, (np.arange(THINNED) + 0.5) / THINNED)


def nearest(firsts: Sequence[ScenarioResult]) -> ScenarioResult | None:
    """Of scenarios of cold devices, the one from which their time without a network is fitted."""
    answered = [one for one in firsts if one.milliseconds]
    return min(answered, key=lambda one: trip(one.network)) if answered else None


def _first(results: Sequence[ScenarioResult]) -> float:
    one = nearest([one for one in results if one.kind == "cold"])
    if one is None:
        return math.nan
    carrying = FIRST_TRIPS * trip(one.network) + transfer(one.network, one.model_bytes)
    return max(0.0, quantile(one.seconds, 0.5) - carrying)


def _own(results: Sequence[ScenarioResult], spent: float) -> tuple[NDArray[np.float64], float]:
    """What is left of a device's answers without the server, at a whole core; processor time."""
    one = _calmest_device(results)
    if one is None:
        return np.empty(0), math.nan
    carrying = float(
        np.median(carried(one.network, one.load_asked.sent, one.load_asked.received, count=101))
    )
    left = one.seconds - spent - carrying
    processor = quantile(np.array(one.processor) / 1000, 0.5)
    return thinned(np.maximum(left, 1e-6) * one.share), processor


def _calmest_device(results: Sequence[ScenarioResult]) -> ScenarioResult | None:
    devices = [one for one in results if one.kind == "load" and one.side == "device"]

    def order(one: ScenarioResult) -> tuple[float, bool, float]:
        return -one.share, one.network != LOOPBACK, offered(one)

    return min(devices, key=order) if devices else None


def _error(predicted: float, measured: float) -> float:
    if not math.isfinite(predicted) or not measured > 0:
        return math.nan
    return relative_error(predicted, measured)
