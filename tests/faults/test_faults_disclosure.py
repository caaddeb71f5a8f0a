"""What a server can learn of one user by asking for more than it should."""

from collections import Counter
from pathlib import Path

import pytest

from client.disclosure import Disclosure
from client.link.connection import Connection
from client.session import Session
from client.stores.versions import VersionStore
from common.wire import offload_pb2 as wire
from common.wire.randomized import IN
from tests.support.scenes import ITEMS
from tests.support.serving import USERS, Endpoint, Misbehaving, Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def session_of(
    connection: Connection, folder: Path, scene: Scene, disclosure: Disclosure | None = None
) -> Session:
    return Session(
        connection, VersionStore(folder), scene.local, preset="paper", disclosure=disclosure
    )


def test_a_server_that_watches_every_item_is_told_nothing(tmp_path: Path, scene: Scene) -> None:
    def curious(said: wire.Description) -> wire.Description:
        del said.watched_items[:]
        said.watched_items.extend(range(ITEMS))
        return said

    server = Misbehaving(scene.service(), describe=curious)
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        for disclosure in (None, Disclosure(least_users=1), Disclosure(epsilon=1.0)):
            session = session_of(connection, tmp_path / "device", scene, disclosure)
            (answered,) = session.answer(range(25))
            assert all(len(one.items) == 10 for one in answered)
            assert {one.untold for one in answered} == {
                f"the server watches {ITEMS} items, and a device tells of 16 at most"
            }
    assert server.reports == []


def test_a_single_users_sum_is_not_told(tmp_path: Path, scene: Scene) -> None:
    server = Misbehaving(scene.service())
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        ((alone,),) = session_of(connection, tmp_path / "device", scene).answer([7])
    assert alone.items and not alone.reported and "5 users at least" in alone.untold
    assert server.reports == []


def test_a_single_user_is_told_of_in_randomized_responses(tmp_path: Path, scene: Scene) -> None:
    server = Misbehaving(scene.service())
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        session = session_of(connection, tmp_path / "device", scene, Disclosure(epsilon=2.0))
        for user in range(USERS):
            ((alone,),) = session.answer([user])
            assert alone.reported and not alone.untold
        reports, _ = endpoint.counted("paper")
    assert len(server.reports) == USERS
    questions: Counter[int] = Counter()
    for report in server.reports:
        # Nothing but one question, drawn anew for each user, and an answer that may be a lie.
        assert not report.counts.ListFields()
        assert len(report.randomized.questions) == len(report.randomized.answers) == 1
        questions.update(report.randomized.questions)
    assert set(questions) == {0, 1, 2}
    assert any(IN in report.randomized.answers for report in server.reports)
    assert reports == USERS
