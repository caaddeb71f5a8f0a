"""The process that asks for recommendations and times them (benchmarks.load starts it).

Reads a Load as JSON from stdin and writes its Outcomes as JSON to stdout. In an open loop requests
are due at times drawn beforehand (Poisson arrivals), and a latency counts from when a request was
due: neither a slow server nor a slow client makes the questions fewer or the answers look faster.
"""

import json
import resource
import select
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final

import grpc
import numpy as np

from benchmarks.http2_calls import Calls
from common.wire import offload_pb2 as wire

METHOD: Final = "/vicinal.v1.Offload/Recommend"
# A caller's patience; none should come near it.
TIMEOUT_SECONDS: Final = 10
CONNECTIONS: Final = 8
# What never came back; gRPC has no such status.
LOST: Final = "LOST"
_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True)
class Load:
    """What to ask.

    rate     requests a second, at random times; 0 for a closed loop
    callers  of a closed loop: each asks again when it has its answer
    """

    address: str
    version: str
    preset: str
    users: int
    seconds: float
    rate: float = 0.0
    callers: int = 0
    seed: int = 0


@dataclass
class Outcomes:
    """Seconds of calls by the status that they ended with, in the order in which they ended.

    late       seconds from when a request was due until it was sent, of an open loop
    processor  seconds of processor time that this process took
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)
    processor: float = 0.0

    def add(self, status: str, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)


class Callers:
    """Connections to a server, used in turn, for calls that are told apart by their place."""

    def __init__(self, load: Load) -> None:
        self._load = load
        opened = (
            Calls(load.address, METHOD, timeout_seconds=TIMEOUT_SECONDS) for _ in range(CONNECTIONS)
        )
        self._calls = {calls.socket: calls for calls in opened}
        self._turns = list(self._calls.values())

    @property
    def under_way(self) -> int:
        return sum(calls.under_way for calls in self._turns)

    def ask(self, place: int, user: int) -> None:
        load = self._load
        request = wire.RecommendRequest(version=load.version, user=user, preset=load.preset)
        self._turns[place % len(self._turns)].ask(place, request.SerializeToString())

    def ended(self, wait: float) -> Iterator[tuple[int, str]]:
        """Place and status of calls that have ended, after `wait` seconds at most."""
        unsent = [calls.socket for calls in self._turns if calls.flush()]
        readable, _, _ = select.select(self._calls, unsent, [], wait)
        for one in readable:
            for place, status in self._calls[one].receive():
                yield place, _NAMES[status]


def open_loop(load: Load) -> Outcomes:
    rng = np.random.default_rng(load.seed)
    count = int(rng.poisson(load.rate * load.seconds))
    due = np.sort(rng.uniform(0, load.seconds, count)).tolist()
    users = rng.integers(load.users, size=count).tolist()
    callers, outcomes = Callers(load), Outcomes()
    start = time.perf_counter()
    end = load.seconds + TIMEOUT_SECONDS
    sent = 0
    while (now := time.perf_counter() - start) < end and (sent < count or callers.under_way):
        while sent < count and due[sent] <= now:
            callers.ask(sent, users[sent])
            outcomes.late.append(time.perf_counter() - start - due[sent])
            sent += 1
        wait = (due[sent] if sent < count else end) - (time.perf_counter() - start)
        for place, status in callers.ended(max(0.0, wait)):
            outcomes.add(status, time.perf_counter() - start - due[place])
    for _ in range(callers.under_way):
        outcomes.add(LOST, TIMEOUT_SECONDS)
    return outcomes


def closed_loop(load: Load) -> Outcomes:
    rng = np.random.default_rng(load.seed)
    callers, outcomes = Callers(load), Outcomes()
    begun: list[float] = []
    end = time.perf_counter() + load.seconds

    def ask() -> None:
        begun.append(time.perf_counter())
        callers.ask(len(begun) - 1, int(rng.integers(load.users)))

    for _ in range(load.callers):
        ask()
    while callers.under_way and time.perf_counter() < end + TIMEOUT_SECONDS:
        for place, status in callers.ended(TIMEOUT_SECONDS):
            outcomes.add(status, time.perf_counter() - begun[place])
            if time.perf_counter() < end:
                ask()
    for _ in range(callers.under_way):
        outcomes.add(LOST, TIMEOUT_SECONDS)
    return outcomes


def run(load: Load) -> Outcomes:
    def processor() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    before = processor()
    outcomes = open_loop(load) if load.rate else closed_loop(load)
    outcomes.processor = processor() - before
    return outcomes


if __name__ == "__main__":
    json.dump(asdict(run(Load(**json.load(sys.stdin)))), sys.stdout)
