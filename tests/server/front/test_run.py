"""A front with its worker processes over real gRPC: saturation, deadlines, metrics, the end."""

import asyncio
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from prometheus_client.parser import text_string_to_metric_families

from common.vicinal.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.description import Description
from common.wire.offload_pb2_grpc import OffloadStub
from common.wire.service import PUSHBACK_KEY, SERVICE_NAME
from server.front.endpoint import Endpoint
from server.front.rotation import Retraining
from server.front.run import FrontOptions, serve_front
from server.versions.folder import describe, written_serving
from server.workers.crew import QueueLimits
from tests.support.child_processes import children_of
from tests.support.serving import PRESETS, SECRET, USERS, WATCHED, Scene, make_scene

pytestmark = pytest.mark.slow

SLOW = VicinalSettings(USERS, 0.2, 5000)
Samples = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Served:
    """What a front serves."""

    scene: Scene
    description: Description
    folder: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    scene = make_scene(tmp_path_factory.mktemp("scene"))
    presets = {**PRESETS, "slow": SLOW}
    description = describe(scene.recommender, presets=presets, watched=WATCHED, list_length=10)
    path = tmp_path_factory.mktemp("serving") / "folder"
    with written_serving(path, scene.recommender, description, SECRET) as folder:
        yield Served(scene, description, folder)


class Front:
    """A running front, and a client of it in the same event loop."""

    def __init__(self, version: str, ports: tuple[int, int], channel: grpc.aio.Channel) -> None:
        self._version = version
        self._stub: Any = OffloadStub(channel)
        self._health: Any = HealthStub(channel)
        self._ports = ports

    def recommend(self, user: int, preset: str, *, timeout: float = 300) -> Any:
        request = wire.RecommendRequest(version=self._version, user=user, preset=preset)
        return self._stub.Recommend(request, timeout=timeout, wait_for_ready=True)

    def health(self) -> Any:
        """What the health service says, from now on."""
        return self._health.Watch(HealthCheckRequest(service=SERVICE_NAME))

    async def samples(self) -> Samples:
        """The metrics, by name and the values of their labels."""
        url = f"http://127.0.0.1:{self._ports[1]}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def waiting(self, count: int) -> None:
        """Until so many requests wait for the worker."""
        async with asyncio.timeout(60):
            while (await self.samples())["vicinal_queue_depth",] != count:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running(served: Served, limits: QueueLimits) -> AsyncIterator[Front]:
    """A front with one worker, ended by SIGTERM."""
    ports: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

    def listening(port: int, metrics_port: int | None) -> None:
        assert metrics_port is not None
        ports.set_result((port, metrics_port))

    serving = asyncio.create_task(
        serve_front(
            served.folder,
            served.scene.tally(),
            FrontOptions(0, 1, limits, metrics_port=0),
            listening=listening,
        )
    )
    either: list[asyncio.Future[Any]] = [ports, serving]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    port, _ = ports.result()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Front(served.description.version, ports.result(), channel)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    # The port is free again.
    (await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", port)).close()


async def code_of(call: Any) -> tuple[grpc.StatusCode, dict[str, str], str]:
    """How a call ends."""
    metadata = dict(await call.trailing_metadata())
    return await call.code(), metadata, await call.details()


def test_saturation_is_refused_with_a_hint_and_seen_in_the_metrics(served: Served) -> None:
    async def use() -> None:
        async with running(served, QueueLimits(length=1, seconds=60)) as front:
            calls = [front.recommend(user, "slow") for user in range(6)]
            ended = [await code_of(call) for call in calls]
            codes = [code for code, _, _ in ended]
            assert codes.count(grpc.StatusCode.OK) == 2
            assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 4
            for code, metadata, details in ended:
                if code != grpc.StatusCode.OK:
                    pause = metadata[PUSHBACK_KEY]
                    assert details == f"saturated, 1 requests wait: try again in {pause} ms"
                    assert int(pause) > 0
            reply = await front.recommend(3, "paper")
            expected = served.scene.recommender.recommend(3, PRESETS["paper"], 10)
            assert list(reply.items) == expected.tolist()
            found = await front.samples()
            assert found["vicinal_requests_total", "Recommend", "OK"] == 3
            assert found["vicinal_requests_total", "Recommend", "RESOURCE_EXHAUSTED"] == 4
            assert found["vicinal_rejected_total", "Recommend"] == 4
            assert found["vicinal_sent_bytes_total", "Recommend"] >= 3 * reply.ByteSize() / 2
            assert found["vicinal_workers_alive",] == 1
            assert found["vicinal_queue_depth",] == 0
            version = served.description.version
            assert found["vicinal_version_info", "mf", version] == 1
            for stage in ("queue", "neighbors", "tune", "rank"):
                assert found["vicinal_stage_seconds_count", "Recommend", stage] == 3
            assert found["vicinal_stage_seconds_count", "Recommend", "whole"] == 3
            assert found["vicinal_stage_seconds_count", "Recommend", "refused"] == 4
            assert found["process_resident_memory_bytes",] > 0

    asyncio.run(use())


def test_a_deadline_that_passes_in_the_queue_frees_the_place(served: Served) -> None:
    async def use() -> None:
        async with running(served, QueueLimits(length=1, seconds=60)) as front:
            # A connection that is there keeps the order of the calls.
            await front.recommend(2, "paper")
            under_way, seconds = front.recommend(0, "slow"), 0.1
            # On a busy machine a deadline may pass before the call is in the queue.
            while ("vicinal_requests_total", "Recommend", "CANCELLED") not in await front.samples():
                late = front.recommend(1, "slow", timeout=seconds)
                assert (await code_of(late))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
                await front.waiting(0)
                assert not under_way.done(), "the answer came too fast to test anything"
                seconds *= 2
            assert len((await front.recommend(2, "paper")).items) == 10
            assert len((await under_way).items) == 10

    asyncio.run(use())


def test_a_lost_worker_is_unavailable_once(served: Served) -> None:
    async def use() -> None:
        async with running(served, QueueLimits()) as front:
            calls = [front.recommend(user, "slow") for user in range(2)]
            # The worker has one of them when the other waits.
            await front.waiting(1)
            for pid in children_of(os.getpid(), "server.workers.worker"):
                os.kill(pid, signal.SIGKILL)
            ended = {code: details for code, _, details in [await code_of(one) for one in calls]}
            assert ended.keys() == {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK}
            assert "try again" in ended[grpc.StatusCode.UNAVAILABLE]
            assert len((await front.recommend(0, "paper")).items) == 10
            assert (await front.samples())["vicinal_workers_lost",] == 1

    asyncio.run(use())


def test_health_is_not_serving_while_no_worker_is_alive(served: Served) -> None:
    async def use() -> None:
        async with running(served, QueueLimits()) as front:
            responses = front.health()
            assert (await responses.read()).status == HealthCheckResponse.SERVING
            for pid in children_of(os.getpid(), "server.workers.worker"):
                os.kill(pid, signal.SIGKILL)
            assert (await responses.read()).status == HealthCheckResponse.NOT_SERVING
            assert (await responses.read()).status == HealthCheckResponse.SERVING
            assert len((await front.recommend(0, "paper")).items) == 10
            responses.cancel()

    asyncio.run(asyncio.wait_for(use(), 120))


def test_a_drain_under_load_drops_nothing_that_was_taken(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A worker is nicer than what keeps a machine busy, and may need more than ten seconds.
    monkeypatch.setattr(Endpoint, "drain", partialmethod(Endpoint.drain, 240.0))
    calls: list[Any] = []

    async def use() -> None:
        async with running(served, QueueLimits(length=50, seconds=60)) as front:
            await front.recommend(0, "paper")
            calls.append(front.recommend(0, "slow"))
            calls.extend(front.recommend(user, "vicinal") for user in range(20))
            await front.waiting(20)
        # The channel is closed by now, and so is the front: what was taken has been answered.
        assert [len((await call).items) for call in calls] == [10] * 21

    asyncio.run(use())
    assert children_of(os.getpid(), "server.workers.worker") == []


def test_a_signal_that_comes_once_all_is_told_finds_its_handler(served: Served) -> None:
    found: list[Any] = []

    def listening(_port: int, _metrics_port: int | None) -> None:
        found.append(signal.getsignal(signal.SIGHUP))
        os.kill(os.getpid(), signal.SIGTERM)

    options = FrontOptions(0, 1, QueueLimits(length=1, seconds=60))
    serving = serve_front(
        served.folder,
        served.scene.tally(),
        options,
        retraining=Retraining(("false",)),
        listening=listening,
    )
    before = signal.getsignal(signal.SIGHUP)
    asyncio.run(serving)
    # A server would be ended by it, or, started to outlive a terminal, ignore it.
    assert found[0] not in (signal.SIG_DFL, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGHUP) in (before, signal.SIG_DFL)
