"""Formulas against hand calculation, and against queues played event by event."""

import heapq
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import InputError
from sims.latency.model import (
    Queue,
    Side,
    answer_quantile,
    break_even,
    cores_for,
    erlang_c,
    exchange_seconds,
    median_size,
    relative_error,
)

EXPONENTIAL, CONSTANT = 1.0, 0.0


def played(queue: Queue, services: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Waits of a first-come-first-served queue, event by event."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / queue.rate, len(services)))
    free = [0.0] * queue.cores
    waits = np.empty(len(services))
    for place, (arrival, service) in enumerate(
        zip(arrivals.tolist(), services.tolist(), strict=True)
    ):
        begun = max(arrival, heapq.heappop(free))
        waits[place] = begun - arrival
        heapq.heappush(free, begun + service)
    return waits


def test_erlang_c_by_hand() -> None:
    # One core: all who find it busy. Two cores, a = 1: (a²/2)(2/(2−1)) / (1 + a + …) = 1/3.
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    # a = 2 on 3 cores: (8/6 · 3) / (1 + 2 + 2 + 4) = 4/9.
    assert erlang_c(3, 2.0) == pytest.approx(4 / 9)


def test_mean_waits_by_hand() -> None:
    # 8 a second, 0.1 s each: ρ = 0.8. M/M/1 waits ρ/(μ−λ) = 0.4 s, M/D/1 half of it.
    assert Queue(1, 8, 0.1, EXPONENTIAL).mean_wait == pytest.approx(0.4)
    assert Queue(1, 8, 0.1, CONSTANT).mean_wait == pytest.approx(0.2)
    # M/M/2 at a = 1: C/(2μ−λ) = (1/3)/10.
    assert Queue(2, 10, 0.1, EXPONENTIAL).mean_wait == pytest.approx(1 / 30)


def test_the_tail_of_a_single_exponential_server_is_exact() -> None:
    queue = Queue(1, 8, 0.1, EXPONENTIAL)
    waits = np.array([-1.0, 0.0, 0.5])
    # P(W > t) = ρ exp(−(μ − λ)t)
    assert queue.longer(waits) == pytest.approx([1.0, 0.8, 0.8 * math.exp(-1)])


def test_a_queue_at_capacity_has_no_end() -> None:
    queue = Queue(1, 10, 0.1, CONSTANT)
    assert queue.mean_wait == math.inf and queue.waiting_share == 1
    assert answer_quantile(np.array([0.1]), queue, 0.5) == math.inf


@pytest.mark.parametrize("cores", [1, 2, 4])
@pytest.mark.parametrize("utilization", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("variation", [CONSTANT, 0.25, EXPONENTIAL])
def test_waits_are_those_of_a_queue_played(
    cores: int, utilization: float, variation: float
) -> None:
    queue = Queue(cores, utilization * cores / 0.01, 0.01, variation)
    rng = np.random.default_rng(1)
    # Waits that follow one another are alike: of fewer, the p99 is off by a fifth itself.
    count = 200_000
    services = np.full(count, queue.service)
    if variation:
        services = rng.gamma(1 / variation, queue.service * variation, count)
    waits = played(queue, services, seed=2)
    # Allen and Cunneen's formula is off by several percent between the exact cases.
    scale = 0.05 * queue.service
    assert queue.mean_wait == pytest.approx(waits.mean(), rel=0.12, abs=scale)
    calm = np.full(1, queue.service)
    for part in (0.5, 0.99):
        found = answer_quantile(calm, queue, part) - queue.service
        truth = float(np.quantile(waits, part))
        # The tail is exact for M/M/c only; too long by less than one service elsewhere.
        assert found == pytest.approx(truth, rel=0.15, abs=queue.service)


def test_without_load_answers_are_the_calm_ones() -> None:
    calm = np.linspace(0.01, 0.02, 101)
    assert answer_quantile(calm, Queue(2, 0, 0.01), 0.5) == pytest.approx(0.015, abs=2e-4)
    assert math.isnan(answer_quantile(np.empty(0), Queue(2, 0, 0.01), 0.5))


def test_an_exchange_by_hand() -> None:
    # 100 ms, 1000 bytes up at 8 kbit/s, 2000 down at 16 kbit/s: a second each way.
    found = exchange_seconds(1000, 2000, rtt=0.1, up=8000, down=16_000)
    assert found == pytest.approx(2.1)
    assert exchange_seconds(1000, 2000, rtt=0.1, up=0, down=0) == pytest.approx(0.1)


def test_offloading_breaks_even_where_both_are_as_slow() -> None:
    server = Side(np.array([0.010]), Queue(1, 0, 0.010, EXPONENTIAL))
    device = Side(np.array([0.030]), Queue(1, 0, 0.001, EXPONENTIAL))
    for part in (0.5, 0.99):
        rate = break_even(server, device, part)
        assert rate is not None and 0 < rate < server.queue.capacity
        assert server.quantile(rate, part) == pytest.approx(device.quantile(rate, part), rel=1e-3)
        assert server.quantile(0.9 * rate, part) < device.quantile(0.9 * rate, part)


def test_a_fast_device_always_wins_and_a_slow_one_at_capacity() -> None:
    server = Side(np.array([0.010]), Queue(1, 0, 0.010))
    assert break_even(server, Side(np.array([0.005]), Queue(1, 0, 0.001)), 0.5) == 0
    slow = Side(np.array([1e4]), Queue(1, 0, 0.001))
    assert break_even(server, slow, 0.5) == pytest.approx(100)
    # A package that costs the server more than the answer: nothing is won at any load.
    costly = Side(np.array([1e4]), Queue(1, 0, 0.020))
    assert break_even(server, costly, 0.5) is None


def test_cores_and_errors() -> None:
    assert cores_for(70, 0.01, utilization=0.7) == 1
    assert cores_for(71, 0.01, utilization=0.7) == 2
    assert relative_error(1.1, 1.0) == pytest.approx(0.1)
    assert median_size([-0.1, 0.3, math.inf, 0.2]) == pytest.approx(0.2)
    assert math.isnan(median_size([math.nan]))


@pytest.mark.parametrize(
    "arguments", [(0, 1, 0.1, 0), (1, -1, 0.1, 0), (1, 1, 0, 0), (1, 1, 0.1, -1)]
)
def test_no_queue_of_nothing(arguments: tuple[int, float, float, float]) -> None:
    with pytest.raises(InputError, match="a queue needs a core"):
        Queue(*arguments)
