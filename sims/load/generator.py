"""The process that asks a server and times its answers: `python -m sims.load.generator`.

Reads a Load as one line of JSON from stdin, connects, says `ready`, begins at the next line or at
the end of stdin, and writes its CallTimings as one line of JSON to stdout. In an open loop requests
are due at times drawn beforehand (Poisson arrivals), and a latency counts from when a request was
due: neither a slow server nor a slow client reduces the load or makes answers look faster.
"""

import json
import resource
import select
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

import grpc
import numpy as np

from common.wire import offload_pb2 as wire
from common.wire.service import SERVICE_NAME
from sims.load.http2 import Calls, Ended

# Seconds that a caller waits for an answer; far more than one should take.
TIMEOUT_SECONDS: Final = 10
# Of calls that got no answer; gRPC has no such status.
LOST: Final = "LOST"
_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}

Call = Literal["Recommend", "GetPackage"]


@dataclass(frozen=True)
class Load:
    """What to ask.

    rate         requests a second, at random times; 0 for a closed loop
    callers      of a closed loop: each asks again when it has its answer
    call         for a ranking by the server, or for what a device ranks with
    connections  used in turn
    """

    address: str
    version: str
    preset: str
    users: int
    seconds: float
    rate: float = 0.0
    callers: int = 0
    seed: int = 0
    call: Call = "Recommend"
    connections: int = 8


@dataclass
class CallTimings:
    """Seconds of calls by the status that they ended with, in the order in which they ended.

    late       seconds from when a request was due until it was sent, of an open loop
    sent       bytes of the requests that were answered; received: of their answers
    processor  seconds of processor time that this process took
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    processor: float = 0.0

    def add(self, status: str, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)


class Callers:
    """Connections to a server, used in turn, for calls that are told apart by their place."""

    def __init__(self, load: Load) -> None:
        self._load = load
        method = f"/{SERVICE_NAME}/{load.call}"
        opened = (
            Calls(load.address, method, timeout_seconds=TIMEOUT_SECONDS)
            for _ in range(load.connections)
        )
        self._calls = {calls.socket: calls for calls in opened}
        self._turns = list(self._calls.values())

    @property
    def under_way(self) -> int:
        return sum(calls.under_way for calls in self._turns)

    def ask(self, place: int, user: int) -> None:
        self._turns[place % len(self._turns)].ask(place, self._request(user).SerializeToString())

    def add(self, timings: CallTimings, ended: Ended, user: int, seconds: float) -> None:
        """Take a call's end down."""
        status = _NAMES[ended.status]
        timings.add(status, seconds)
        if status == "OK":
            timings.sent += self._request(user).ByteSize()
            timings.received += ended.octets

    def ended(self, wait: float) -> Iterator[Ended]:
        """Calls that have ended, after `wait` seconds at most."""
        unsent = [calls.socket for calls in self._turns if calls.flush()]
        readable, _, _ = select.select(self._calls, unsent, [], wait)
        for one in readable:
            yield from self._calls[one].receive()

    def _request(self, user: int) -> wire.RecommendRequest | wire.PackageRequest:
        load = self._load
        kind = wire.RecommendRequest if load.call == "Recommend" else wire.PackageRequest
        return kind(version=load.version, user=user, preset=load.preset)


def open_loop(callers: Callers, load: Load) -> CallTimings:
    rng = np.random.default_rng(load.seed)
    count = int(rng.poisson(load.rate * load.seconds))
    due = np.sort(rng.uniform(0, load.seconds, count)).tolist()
    users = rng.integers(load.users, size=count).tolist()
    timings = CallTimings()
    start = time.perf_counter()
    end = load.seconds + TIMEOUT_SECONDS
    sent = 0
    while (now := time.perf_counter() - start) < end and (sent < count or callers.under_way):
        while sent < count and due[sent] <= now:
            callers.ask(sent, users[sent])
            timings.late.append(time.perf_counter() - start - due[sent])
            sent += 1
        wait = (due[sent] if sent < count else end) - (time.perf_counter() - start)
        for one in callers.ended(max(0.0, wait)):
            seconds = time.perf_counter() - start - due[one.token]
            callers.add(timings, one, users[one.token], seconds)
    for _ in range(callers.under_way):
        timings.add(LOST, TIMEOUT_SECONDS)
    return timings


def closed_loop(callers: Callers, load: Load) -> CallTimings:
    rng = np.random.default_rng(load.seed)
    timings = CallTimings()
    begun: list[tuple[float, int]] = []
    end = time.perf_counter() + load.seconds

    def ask() -> None:
        begun.append((time.perf_counter(), int(rng.integers(load.users))))
        callers.ask(len(begun) - 1, begun[-1][1])

    for _ in range(load.callers):
        ask()
    while callers.under_way and time.perf_counter() < end + TIMEOUT_SECONDS:
        for one in callers.ended(TIMEOUT_SECONDS):
            asked, user = begun[one.token]
            callers.add(timings, one, user, time.perf_counter() - asked)
            if time.perf_counter() < end:
                ask()
    for _ in range(callers.under_way):
        timings.add(LOST, TIMEOUT_SECONDS)
    return timings


def run(callers: Callers, load: Load) -> CallTimings:
    def processor() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    before = processor()
    timings = (open_loop if load.rate else closed_loop)(callers, load)
    timings.processor = processor() - before
    return timings


def main() -> None:
    load = Load(**json.loads(sys.stdin.readline()))
    callers = Callers(load)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    json.dump(asdict(run(callers, load)), sys.stdout)


if __name__ == "__main__":
    main()
