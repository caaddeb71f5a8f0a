"""The process that asks a server and times its answers: `python -m sims.load_client`.

Reads a Load as one line of JSON from stdin, connects, says `ready`, begins at the next line or at
the end of stdin, and writes its Outcomes as one line of JSON to stdout. In an open loop requests
are due at times drawn beforehand (Poisson arrivals), and a latency counts from when a request was
due: neither a slow server nor a slow client makes the questions fewer or the answers look faster.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import grpc
import numpy as np

from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadStub

# A caller's patience; none should come near it.
TIMEOUT_SECONDS: Final = 10.0

# A proxy meant for the web is not asked.
CHANNEL_OPTIONS: Final = (("grpc.enable_http_proxy", 0),)

Call = Literal["Recommend", "GetPackage"]


@dataclass(frozen=True)
class Load:
    """What to ask.

    rate     requests a second, at random times; 0 for a closed loop
    callers  of a closed loop: each asks again when it has its answer
    call     for a ranking by the server, or for what a device ranks with
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


@dataclass
class Outcomes:
    """Seconds of calls by the status that they ended with, in the order in which they ended.

    late      seconds from when a request was due until it was sent, of an open loop
    sent      bytes of the requests that were answered, received of their answers
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)
    sent: int = 0
    received: int = 0

    def add(self, status: str, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)


async def ask(stub: Any, load: Load, user: int, outcomes: Outcomes) -> str:
    """The name of the status that a call ends with; counts the bytes of an answered one."""
    kind = wire.RecommendRequest if load.call == "Recommend" else wire.PackageRequest
    request = kind(version=load.version, user=user, preset=load.preset)
    call = getattr(stub, load.call)(request, timeout=TIMEOUT_SECONDS)
    status: str = (await call.code()).name
    if status == "OK":
        outcomes.sent += request.ByteSize()
        outcomes.received += (await call).ByteSize()
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
        status = await ask(stub, load, user, outcomes)
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
            status = await ask(stub, load, int(rng.integers(load.users)), outcomes)
            outcomes.add(status, loop.time() - begun)

    async with asyncio.TaskGroup() as group:
        for _ in range(load.callers):
            group.create_task(caller())
    return outcomes


async def run(load: Load) -> Outcomes:
    async with grpc.aio.insecure_channel(load.address, options=CHANNEL_OPTIONS) as channel:
        await asyncio.wait_for(channel.channel_ready(), TIMEOUT_SECONDS)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        loop = open_loop if load.rate else closed_loop
        return await loop(OffloadStub(channel), load)


if __name__ == "__main__":
    json.dump(asdict(asyncio.run(run(Load(**json.loads(sys.stdin.readline()))))), sys.stdout)
