"""What the fitted formulas say of fleets that were not measured. All of it is extrapolated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sims.latency.fit import SIDES, Fit
from sims.latency.model import answer_quantile, cores_for
from sims.latency.plan import SideName

FLEETS: Final = (1_000, 10_000, 100_000, 1_000_000)
# Of a server's cores: more lets waits grow, less wastes cores.
UTILIZATION: Final = 0.7


@dataclass(frozen=True)
class Extrapolated:
    """A fleet's server on one side.

    devices         each asks once in `interval` seconds, at random times
    cores           that the server needs, by processor time, with nothing else on them
    p50, p99        seconds from question to list
    bytes_a_second  to and from all devices; versions of the model are not among them
    """

    side: SideName
    devices: int
    interval: float
    network: str
    share: float
    rate: float
    cores: int
    p50: float
    p99: float
    bytes_a_second: float


def extrapolate(
    fit: Fit,
    network: str,
    share: float,
    *,
    interval: float,
    fleets: Sequence[int] = FLEETS,
) -> list[Extrapolated]:
    """Both sides for each size of fleet."""
    found = []
    for devices in fleets:
        rate = devices / interval
        for name in SIDES:
            cores = cores_for(rate, fit.spent[name], utilization=UTILIZATION)
            side = fit.side(name, network, share, cores=cores)
            queue = replace(side.queue, rate=rate)
            found.append(
                Extrapolated(
                    name,
                    devices,
                    interval,
                    network,
                    share,
                    rate,
                    cores,
                    answer_quantile(side.calm, queue, 0.5),
                    answer_quantile(side.calm, queue, 0.99),
                    rate * (fit.sent[name] + fit.received[name]),
                )
            )
    return found
