"""Latency by formula: the server as a queue, a network as bytes to carry, a device as arithmetic.

Requests arrive at random times (Poisson), wait for one of c cores and keep it for their service
time: M/G/c. Its mean wait is Allen and Cunneen's approximation (A. O. Allen, Probability,
Statistics, and Queueing Theory, 2nd ed., 1990, section 5.3), exact for M/M/c and M/G/1. The wait
of those who wait is taken to be exponential, which is exact for M/M/c.

Times are in seconds, rates in requests a second. An empty sample has no quantile: NaN.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError

# Halvings of an interval: more change no printed digit.
HALVINGS: Final = 35
# Queues are not asked nearer to their capacity than this: waits have no bound there.
FULL: Final = 0.999


def erlang_c(cores: int, offered: float) -> float:
    """The share of requests that wait, at `offered` = rate × mean service < `cores` (M/M/c).

    >>> round(erlang_c(2, 1.0), 4)
    0.3333
    """
    blocked = 1.0  # Erlang B by its recurrence, which does not overflow
    for core in range(1, cores + 1):
        blocked = offered * blocked / (core + offered * blocked)
    return cores * blocked / (cores - offered * (1 - blocked))


@dataclass(frozen=True)
class Queue:
    """An M/G/c queue.

    cores      c
    rate       λ, arrivals a second
    service    mean service time, seconds
    variation  variance of the service time over its squared mean: 0 constant, 1 exponential
    """

    cores: int
    rate: float
    service: float
    variation: float = 0.0

    def __post_init__(self) -> None:
        if self.cores < 1 or not self.service > 0 or not self.rate >= 0 or not self.variation >= 0:
            raise InputError(
                "a queue needs a core, a service time above 0, and rate and variation not below 0"
            )

    @property
    def utilization(self) -> float:
        return self.rate * self.service / self.cores

    @property
    def capacity(self) -> float:
        """Requests a second above which the queue grows without end."""
        return self.cores / self.service

    @property
    def waiting_share(self) -> float:
        """How many wait at all: 0–1."""
        if self.utilization >= 1:
            return 1.0
        return erlang_c(self.cores, self.rate * self.service)

    @property
    def mean_wait(self) -> float:
        """Over all requests, those that do not wait included; infinite at capacity."""
        if self.utilization >= 1:
            return math.inf
        spare = self.capacity - self.rate
        return self.waiting_share * (1 + self.variation) / 2 / spare

    def longer(self, wait: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(W > wait); 1 for what is below 0."""
        if self.utilization >= 1:
            return np.ones_like(wait)
        share = self.waiting_share
        if not share:
            return np.where(wait < 0, 1.0, 0.0)
        mean_of_waiting = self.mean_wait / share
        tail = share * np.exp(-np.maximum(wait, 0) / mean_of_waiting)
        return np.where(wait < 0, 1.0, tail)


def answer_quantile(calm: NDArray[np.float64], queue: Queue, part: float) -> float:
    """The `part` (0–1) quantile of calm + wait, for a sample `calm` [n] of answers without wait."""
    if not len(calm):
        return math.nan
    if queue.utilization >= 1:
        return math.inf
    low, high = 0.0, float(calm.max()) + 60 * (queue.mean_wait + 1e-9)
    while float(queue.longer(high - calm).mean()) > 1 - part:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float(queue.longer(middle - calm).mean()) > 1 - part:
            low = middle
        else:
            high = middle
    return high


def exchange_seconds(sent: float, received: float, *, rtt: float, up: float, down: float) -> float:
    """One request of `sent` bytes and its answer of `received`, at `up` and `down` bits a second.

    A rate of 0 has no limit.
    """
    return rtt + sum(8 * size / rate for size, rate in ((sent, up), (received, down)) if rate)


@dataclass(frozen=True)
class Side:
    """One way to answer.

    calm   seconds from question to list without any wait at the server, a sample [n]
    queue  at the server; its rate is replaced
    """

    calm: NDArray[np.float64]
    queue: Queue

    def quantile(self, rate: float, part: float) -> float:
        return answer_quantile(self.calm, replace(self.queue, rate=rate), part)


def break_even(server: Side, device: Side, part: float) -> float | None:
    """The least rate from which on a device's `part` quantile is not above the server's.

    0 where devices are faster without any load; None where they are slower at every rate below
    the server's capacity, beyond which it does not answer all.
    """
    if not len(server.calm) or not len(device.calm):
        return None

    def gain(rate: float) -> float:
        return server.quantile(rate, part) - device.quantile(rate, part)

    low, high = 0.0, FULL * server.queue.capacity
    if gain(low) >= 0:
        return 0.0
    if high >= device.queue.capacity or gain(high) < 0:
        return server.queue.capacity if device.queue.capacity > server.queue.capacity else None
    return _least(lambda rate: gain(rate) >= 0, low, high)


def cores_for(rate: float, service: float, *, utilization: float) -> int:
    """Cores of which no more than `utilization` is used at a rate."""
    return max(1, math.ceil(rate * service / utilization - 1e-9))


def relative_error(predicted: float, measured: float) -> float:
    """(predicted − measured) / measured."""
    return (predicted - measured) / measured


def median_size(errors: Sequence[float]) -> float:
    """Of finite relative errors, without their signs; NaN when there are none."""
    sizes = [abs(error) for error in errors if math.isfinite(error)]
    return float(np.median(sizes)) if sizes else math.nan


def _least(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where `holds` begins, which does not at `low` and does at `high`."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
