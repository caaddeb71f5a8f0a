"""Devices that judge themselves too slow, and servers that have no time for them."""

from pathlib import Path

import pytest

from client.device import Pace
from client.link.connection import Connection
from client.session import Session
from client.stores.versions import VersionStore
from server.front.service import OffloadService
from server.metrics import Metrics
from server.workers.crew import SaturatedError
from server.workers.frames import Call, WorkerResult
from server.workers.worker import VersionHandler
from tests.support.serving import SECRET, USERS, Endpoint, InProcess, Scene, make_scene


class NoTimeToRecommend:
    """Ships packages, and refuses to fine-tune."""

    def __init__(self, workers: InProcess, seconds: float) -> None:
        self._workers, self._seconds = workers, seconds
        self.asked = 0

    async def ask(self, call: Call, preset: str, request: bytes) -> WorkerResult:
        if call == "Recommend":
            self.asked += 1
            raise SaturatedError(7, self._seconds)
        return await self._workers.ask(call, preset, request)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def test_a_slow_device_asks_the_server_and_says_so(tmp_path: Path, scene: Scene) -> None:
    store = VersionStore(tmp_path / "device")
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = Session(connection, store, scene.local, preset="vicinal")
        here = [one for batch in session.answer(range(USERS)) for one in batch]
        slow = Session(connection, store, scene.local, preset="vicinal", slower_than=0.0)
        answered = [one for batch in slow.answer(range(USERS)) for one in batch]
        reports, counts = endpoint.counted("vicinal")
    by_server = [one.counts.by_server for one in answered]
    # Three are needed to judge; one of 25 is made here again, to judge anew.
    assert by_server == [0] * 3 + [1] * 24 + [0] + [1] * (USERS - 28)
    assert [one.items for one in answered] == [one.items for one in here]
    assert reports == 4
    assert (counts.on_device, counts.by_server) == (USERS + 4, USERS - 4)
    assert all((one.computed == 0) == bool(one.counts.by_server) for one in answered)


def test_a_saturated_server_is_asked_once_and_then_left_alone(tmp_path: Path, scene: Scene) -> None:
    description = scene.description()
    workers = NoTimeToRecommend(
        InProcess(VersionHandler(scene.recommender, description, SECRET), 0), 60.0
    )
    service = OffloadService(scene.catalog(), scene.tally(), workers, Metrics(description))
    with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
        session = Session(
            connection,
            VersionStore(tmp_path / "device"),
            scene.local,
            preset="paper",
            slower_than=0.0,
        )
        answered = [one for batch in session.answer(range(20)) for one in batch]
        assert workers.asked == 1
        session._recommend_again = 0.0
        session.answer_one(21)
        assert workers.asked == 2
    assert [one.counts.on_device for one in answered] == [1] * 20


def test_pace_is_judged_by_the_middle_of_the_last_answers() -> None:
    pace = Pace(1.0)
    assert not Pace(None).too_slow()
    for seconds, slow in ((9.0, False), (9.0, False), (9.0, True), (0.5, True)):
        pace.note(seconds)
        assert pace.too_slow() is slow or seconds == 0.5
    # The fast one made the others forgotten.
    assert not pace.too_slow()
    for seconds in (2.0, 2.0):
        pace.note(seconds)
    assert pace.too_slow()
