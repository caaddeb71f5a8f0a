"""The process that asks for recommendations and times them (benchmarks.load starts it).

Reads a Load as JSON from stdin and writes its Outcomes as JSON to stdout. In an open loop requests
are due at times drawn beforehand (Poisson arrivals), and a latency counts from when a request was
due: neither a slow server nor a slow client makes the questions fewer or the answers look faster.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import grpc
import numpy as np

from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadStub

# A caller's patience; none should come near it.
TIMEOUT_SECONDS: Final = 10.0


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

    late  seconds from when a request was due until it was sent, of an open loop
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)

    def add(self, status: str, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)


async def ask(stub: Any, load: Load, user: int) -> str:
    """The name of the status that a call ends with."""
    request = wire.RecommendRequest(version=load.version, user=user, preset=load.preset)
    call = stub.Recommend(request, timeout=TIMEOUT_SECONDS)
    status: str = (await call.code()).name
    return status


async def open_loop(stub: Any, load: Load) -> Outcomes:
    rng = np.random.default_rng(load.seed)
    count = rng.poisson(load.rate * load.seconds)
    due = np.sort(rng.uniform(0, load.seconds, count)).tolist()
    users = rng.integers(load.users, size=count).tolist()
    outcomes = Outcomes()
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def one(at: float, user: int) -> None:
        outcomes.late.append(loop.time() - start - at)
        status = await ask(stub, load, user)
        outcomes.add(status, loop.time() - start - at)

    async with asyncio.TaskGroup() as group:
        for at, user in zip(due, users, strict=True):
            await asyncio.sleep(max(0.0, start + at - loop.time()))
            group.create_task(one(at, user))
    return outcomes


async def closed_loop(stub: Any, load: Load) -> Outcomes:
    rng = np.random.default_rng(load.seed)
    outcomes = Outcomes()
    loop = asyncio.get_running_loop()
    end = loop.time() + load.seconds

    async def caller() -> None:
        while (begun := loop.time()) < end:
            status = await ask(stub, load, int(rng.integers(load.users)))
            outcomes.add(status, loop.time() - begun)

    async with asyncio.TaskGroup() as group:
        for _ in range(load.callers):
            group.create_task(caller())
    return outcomes


async def run(load: Load) -> Outcomes:
    async with grpc.aio.insecure_channel(load.address) as channel:
        loop = open_loop if load.rate else closed_loop
        return await loop(OffloadStub(channel), load)


if __name__ == "__main__":
    json.dump(asdict(asyncio.run(run(Load(**json.load(sys.stdin))))), sys.stdout)
