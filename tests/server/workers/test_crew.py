"""Worker processes: the same answers, one lost at a time, and a queue that stays short."""

import asyncio
import math
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from common.errors import VicinalError
from common.vicinal.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from server.versions.folder import current_version, describe, written_serving
from server.workers.crew import Crew, QueueLimits, SaturatedError
from server.workers.fair_queue import CALLER
from server.workers.frames import Call, Status, WorkerLostError, WorkerResult
from server.workers.hung import LEAST_SECONDS
from tests.support.serving import PRESETS, SECRET, USERS, WATCHED, Scene, make_scene

# So many steps that an answer takes a good part of a second.
SLOW = VicinalSettings(USERS, 0.2, 5000)
KIND: tuple[Call, str] = ("Recommend", "paper")
NO_LIMIT = QueueLimits(length=1000, seconds=math.inf)

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def folder(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    description = describe(
        scene.recommender, presets={**PRESETS, "slow": SLOW}, watched=WATCHED, list_length=10
    )
    path = tmp_path_factory.mktemp("serving") / "folder"
    with written_serving(path, scene.recommender, description, SECRET) as written:
        yield written
    assert not path.exists()


def with_crew(
    folder: Path, use: Callable[[Crew], Awaitable[None]], *, workers: int, limits: QueueLimits
) -> None:
    """Run `use` with a crew, of which no process is left afterwards."""
    seen: set[int] = set()

    async def run() -> None:
        async with Crew(folder, workers=workers, limits=limits) as crew:
            seen.update(crew.pids)
            assert len(seen) == workers
            await use(crew)
            seen.update(crew.pids)

    asyncio.run(run())
    assert [pid for pid in seen if Path(f"/proc/{pid}").exists()] == []


def recommend(crew: Crew, user: int, preset: str) -> "asyncio.Task[WorkerResult]":
    version = current_version(crew._folder)
    request = wire.RecommendRequest(version=version, user=user, preset=preset)
    return asyncio.create_task(crew.ask("Recommend", preset, request.SerializeToString()))


def items(answer: WorkerResult) -> list[int]:
    assert answer.status is Status.ANSWERED
    return list(wire.Recommendation.FromString(answer.data).items)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.slow
def test_workers_answer_as_the_recommender_does(folder: Path, scene: Scene) -> None:
    async def use(crew: Crew) -> None:
        for preset in ("paper", "vicinal"):
            tasks = [recommend(crew, user, preset) for user in range(USERS)]
            for user, answer in enumerate(await asyncio.gather(*tasks)):
                expected = scene.recommender.recommend(user, PRESETS[preset], 10)
                assert items(answer) == expected.tolist()
                assert min(answer.seconds) > 0 and answer.queued >= 0
        refused = await recommend(crew, 0, "crowd")
        assert refused.status is Status.REFUSED
        assert b"k = 45 neighbors asked of 44 users" in refused.data

    with_crew(folder, use, workers=2, limits=NO_LIMIT)


@pytest.mark.slow
def test_a_killed_worker_fails_its_own_request_and_is_replaced(folder: Path) -> None:
    async def use(crew: Crew) -> None:
        (first,) = crew.pids
        under_way = recommend(crew, 0, "slow")
        waiting = [recommend(crew, user, "paper") for user in range(3)]
        await until(lambda: crew.depth == 3)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            await under_way
        for answer in await asyncio.gather(*waiting):
            assert len(items(answer)) == 10
        assert crew.lost == 1 and len(crew.pids) == 1 and first not in crew.pids
        # Killed while it has nothing to do, it fails nobody.
        (second,) = crew.pids
        os.kill(second, signal.SIGKILL)
        await until(lambda: crew.lost == 2)
        assert len(items(await recommend(crew, 0, "paper"))) == 10

    with_crew(folder, use, workers=1, limits=NO_LIMIT)


@pytest.mark.slow
def test_a_hung_worker_is_killed_and_replaced(folder: Path) -> None:
    async def use(crew: Crew) -> None:
        await recommend(crew, 0, "paper")
        (hung,) = crew.pids
        os.kill(hung, signal.SIGSTOP)
        begun = time.monotonic()
        stuck, waiting = recommend(crew, 0, "paper"), recommend(crew, 1, "paper")
        with pytest.raises(WorkerLostError):
            await stuck
        assert time.monotonic() - begun >= LEAST_SECONDS
        assert len(items(await waiting)) == 10
        assert crew.lost == 1 and hung not in crew.pids
        assert not Path(f"/proc/{hung}").exists()

    with_crew(folder, use, workers=1, limits=NO_LIMIT)


def test_a_full_queue_refuses_at_once_and_recovers(folder: Path) -> None:
    async def use(crew: Crew) -> None:
        tasks = [recommend(crew, user, "slow") for user in range(6)]
        refused, accepted = tasks[3:], tasks[:3]
        for task in refused:
            with pytest.raises(SaturatedError) as caught:
                await task
            assert caught.value.waiting == 2
        assert not any(task.done() for task in accepted)
        assert all(len(items(answer)) == 10 for answer in await asyncio.gather(*accepted))
        assert len(items(await recommend(crew, 1, "slow"))) == 10

    with_crew(folder, use, workers=1, limits=QueueLimits(length=2, seconds=math.inf))


@pytest.mark.slow
def test_a_wait_that_would_be_long_is_refused_with_its_length(folder: Path) -> None:
    async def use(crew: Crew) -> None:
        took = sum((await recommend(crew, 0, "slow")).seconds)
        tasks = [recommend(crew, user, "slow") for user in range(3)]
        # One waits, and the next would wait for it; quick ones would too.
        for late in (tasks[2], recommend(crew, 0, "paper")):
            with pytest.raises(SaturatedError) as caught:
                await late
            assert caught.value.waiting == 1
            assert took / 2 < caught.value.retry_seconds < took * 2 + 1
        await asyncio.gather(*tasks[:2])

    with_crew(folder, use, workers=1, limits=QueueLimits(length=64, seconds=0.01))


@pytest.mark.slow
def test_callers_who_leave_do_not_hold_up_others(folder: Path) -> None:
    async def use(crew: Crew) -> None:
        under_way = recommend(crew, 0, "slow")
        waiting = [recommend(crew, user, "slow") for user in range(20)]
        await until(lambda: crew.depth == 20)
        for task in waiting:
            task.cancel()
        # The worker reads the answer of one who has left, and goes on with the next.
        under_way.cancel()
        await asyncio.gather(under_way, *waiting, return_exceptions=True)
        assert crew.depth == 0
        assert len(items(await recommend(crew, 5, "paper"))) == 10
        assert crew.lost == 0

    with_crew(folder, use, workers=1, limits=NO_LIMIT)


def recommend_to(crew: Crew, caller: str, user: int) -> "asyncio.Task[WorkerResult]":
    CALLER.set(caller)
    return recommend(crew, user, "paper")


@pytest.mark.slow
def test_who_asks_for_much_waits_behind_itself(folder: Path) -> None:
    async def use(crew: Crew) -> None:
        ended: list[str] = []

        def asked(caller: str) -> "asyncio.Task[WorkerResult]":
            task = recommend_to(crew, caller, 0)
            task.add_done_callback(lambda _task: ended.append(caller))
            return task

        flood = [asked("greedy") for _ in range(8)]
        late = [asked("modest"), asked("other")]
        await asyncio.gather(*flood, *late)
        assert ended.index("modest") <= 2 and ended.index("other") <= 3

    with_crew(folder, use, workers=1, limits=NO_LIMIT)


@pytest.mark.slow
def test_who_took_little_may_wait_beside_who_takes_all(folder: Path) -> None:
    async def use(crew: Crew) -> None:
        refused = answered = 0

        async def greedy() -> None:
            nonlocal refused
            CALLER.set("greedy")
            while True:
                try:
                    await recommend(crew, 0, "paper")
                except SaturatedError:
                    refused += 1
                    await asyncio.sleep(0)

        flood = [asyncio.create_task(greedy()) for _ in range(20)]
        # Until it has taken far more than one call.
        await until(lambda: crew._shares.recent("greedy") > 9 * crew._expected.get(KIND, 9.0))
        for user in range(2):
            answered += len(items(await recommend_to(crew, "modest", user))) == 10
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        assert answered == 2 and refused > 0

    with_crew(folder, use, workers=1, limits=QueueLimits(length=4, seconds=0.001))


@pytest.mark.slow
def test_a_crew_that_cannot_start_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def start() -> None:
        async with Crew(tmp_path / "none", workers=1, limits=NO_LIMIT):
            raise AssertionError("it started")

    with pytest.raises(VicinalError, match="ended before it was ready"):
        asyncio.run(start())
    assert "cannot be read" in capfd.readouterr().err
