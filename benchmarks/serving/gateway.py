"""The gateway beside gRPC: `python -m benchmarks.serving.gateway` prints a section.

One server, one gateway before it, and one caller who asks for the same users' lists both ways in
turn, a call at a time, each over a connection that stays open.
"""

import gc
import http.client
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
import numpy as np

from benchmarks.report import Section, milliseconds, progress, run, table
from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadStub
from sims.processes.children import Children
from sims.serving.process import ServeProcess

# Of MovieLens 100K's shape, and 1M's.
SHAPES: Final = ("synthetic:943x1682", "synthetic:6040x3706")
PRESET: Final = "vicinal"
# A slower tail of the gateway than this is a failure.
MOST: Final = 1.5
QUANTILES: Final = (50, 99)
WAYS: Final = ("gRPC", "gateway")


def grpc_caller(port: int, version: str) -> Callable[[int], list[int]]:
    stub = OffloadStub(grpc.insecure_channel(f"127.0.0.1:{port}"))

    def ask(user: int) -> list[int]:
        request = wire.RecommendRequest(version=version, user=user, preset=PRESET)
        return list(stub.Recommend(request).items)

    return ask


def http_caller(port: int) -> Callable[[int], list[int]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"}

    def ask(user: int) -> list[int]:
        connection.request(
            "POST", "/v1/recommend", json.dumps({"user": user, "preset": PRESET}), headers
        )
        reply = json.loads(connection.getresponse().read())
        return [item["index"] for item in reply["items"]]

    return ask


def timed(ways: list[Callable[[int], list[int]]], users: list[int]) -> list[list[float]]:
    """Seconds of every call, by way; each user is asked for both ways, the first one changes."""
    seconds: list[list[float]] = [[], []]
    # Of a collection of garbage neither way is to blame.
    gc.disable()
    for count, user in enumerate(users):
        answers: list[list[int]] = [[], []]
        for place in (0, 1) if count % 2 else (1, 0):
            begun = time.perf_counter()
            answers[place] = ways[place](user)
            seconds[place].append(time.perf_counter() - begun)
        assert answers[0] == answers[1]
    gc.enable()
    return seconds


def measured(shape: str, calls: int) -> list[list[float]]:
    with tempfile.TemporaryDirectory() as name, Children(Path(name)) as children:
        folder = Path(name)
        arguments = ("--dataset", shape, "--model", "mf", "--workers", "1")
        with ServeProcess(children, folder, arguments) as server:
            port_file = folder / "gateway-port"
            child = children.start(
                "sims.cli",
                *("gateway", "--server", server.address, "--port", "0"),
                *("--port-file", str(port_file)),
                name="gateway",
                captured=False,
            )
            child.until(port_file.exists, 60)
            with grpc.insecure_channel(server.address) as channel:
                described = OffloadStub(channel).Describe(wire.DescribeRequest())
            ways = [
                grpc_caller(server.port, described.version),
                http_caller(int(port_file.read_text())),
            ]
            rng = np.random.default_rng(0)
            users = rng.integers(0, described.user_count, calls + 50).tolist()
            timed(ways, users[:50])
            return timed(ways, users[50:])


def gateway_section(short: bool) -> Section:
    rows, figures, missed = [], {}, []
    for shape in SHAPES[: 1 if short else 2]:
        progress(f"gateway: {shape}")
        seconds = measured(shape, 300 if short else 3000)
        ways = dict(zip(WAYS, np.percentile(seconds, QUANTILES, axis=1).T.tolist(), strict=True))
        ratios = [b / a for a, b in zip(*ways.values(), strict=True)]
        figures[shape] = {**ways, "ratios": ratios}
        cells = [milliseconds(value) for way in ways.values() for value in way]
        rows.append([shape, *cells, *(f"{ratio:.2f}" for ratio in ratios)])
        if ratios[-1] > MOST:
            missed.append(f"{shape}: p99 of the gateway is {ratios[-1]:.2f} times that of gRPC")
    heads = ("ratings", *(f"{way} p{q}, ms" for way in WAYS for q in QUANTILES))
    text = [
        "## The gateway beside gRPC",
        "",
        "`Recommend` of one server, asked over gRPC and through `vicinal gateway`: the same users, "
        f"in turn, one call at a time, {300 if short else 3000} calls each way. The list is "
        "computed on one worker, preset vicinal, and the answers are equal. Seconds are those of "
        f"the caller. The ratio of p99 has to be {MOST} at most.",
        "",
        table((*heads, *(f"ratio p{q}" for q in QUANTILES)), rows),
    ]
    return Section("\n".join(text), figures, missed)


if __name__ == "__main__":
    run(gateway_section)
