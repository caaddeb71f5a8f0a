"""Those who ask a server and time its answers, against real servers."""

import asyncio
from collections import Counter
from typing import Any, Literal

import pytest

from common.wire import offload_pb2 as wire
from sims.load.generator import Callers, Load, run
from tests.support.serving import Endpoint, Misbehaving, Scene, make_scene

REPLY = wire.Recommendation(items=[1, 2, 300])


class Slow(Misbehaving):
    """Answers after a pause; knows when it was asked, and how many wait."""

    def __init__(self, scene: Scene, pause: float) -> None:
        super().__init__(scene.service())
        self._pause = pause
        self.asked: list[float] = []
        self.most = self._waiting = 0

    async def Recommend(self, _request: Any, _context: Any) -> wire.Recommendation:
        self.asked.append(asyncio.get_running_loop().time())
        self._waiting += 1
        self.most = max(self.most, self._waiting)
        await asyncio.sleep(self._pause)
        self._waiting -= 1
        return REPLY


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def test_slow_answers_do_not_make_the_questions_fewer(scene: Scene) -> None:
    counts, outcomes = [], []
    for pause in (0.0, 1.0):
        service = Slow(scene, pause)
        with Endpoint(service) as endpoint:
            load = Load(endpoint.address, "v", "paper", 40, seconds=0.5, rate=60, seed=7)
            outcomes.append(run(Callers(load), load))
        counts.append(len(service.asked))
        # All were asked within the half second (and a busy machine's delay), not one by one.
        assert service.asked[-1] - service.asked[0] < 10
    assert counts[0] == counts[1] > 10
    fast, slow = outcomes
    assert len(slow.seconds["OK"]) == len(fast.late) == counts[0]
    assert min(slow.seconds["OK"]) >= 1.0
    assert slow.received == counts[0] * REPLY.ByteSize() and slow.sent > counts[0]


def test_a_closed_loop_has_as_many_under_way_as_it_has_callers(scene: Scene) -> None:
    service = Slow(scene, 0.05)
    with Endpoint(service) as endpoint:
        load = Load(endpoint.address, "v", "paper", 40, seconds=0.5, callers=3)
        outcomes = run(Callers(load), load)
    assert service.most == 3
    assert len(outcomes.seconds["OK"]) == len(service.asked) >= 3


@pytest.mark.parametrize("call", ["Recommend", "GetPackage"])
def test_both_calls_are_answered_and_weighed(
    scene: Scene, call: Literal["Recommend", "GetPackage"]
) -> None:
    with Endpoint(scene.service(refusals=2)) as endpoint:
        version = scene.description().version
        load = Load(
            endpoint.address, version, "paper", 40, seconds=0.3, rate=60, call=call, connections=2
        )
        outcomes = run(Callers(load), load)
    assert {"OK", "RESOURCE_EXHAUSTED"} == set(outcomes.seconds)
    assert len(outcomes.seconds["RESOURCE_EXHAUSTED"]) == 2
    answered = len(outcomes.seconds["OK"])
    assert outcomes.sent == pytest.approx(answered * len(version), rel=0.5)
    assert outcomes.received > answered * 10
    assert outcomes.processor > 0


def test_what_the_server_does_not_know_is_no_answer(scene: Scene) -> None:
    with Endpoint(scene.service()) as endpoint:
        load = Load(endpoint.address, "other", "paper", 40, seconds=0.2, rate=50)
        outcomes = run(Callers(load), load)
    assert Counter(outcomes.seconds.keys()) == {"FAILED_PRECONDITION": 1}
    assert (outcomes.sent, outcomes.received) == (0, 0)
