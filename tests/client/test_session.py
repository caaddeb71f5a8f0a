"""One device process: batches, reports, and what it checks before it begins."""

from dataclasses import replace
from pathlib import Path

import pytest

from client.answers import AnswerRecord
from client.link.connection import Connection, VersionRefusedError
from client.session import Session
from client.stores.ratings import LocalRatings
from client.stores.versions import VersionStore
from common.errors import InputError, VicinalError
from common.ranking import Counts, count_user
from server.model_store import StoredModel
from server.recommending.recommender import Recommender
from tests.support.serving import (
    USERS,
    WATCHED,
    Endpoint,
    Misbehaving,
    Scene,
    make_scene,
    other_manifest,
)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def in_process(scene: Scene, preset: str) -> Counts:
    """The counts of all users without any network."""
    presets = scene.description().presets
    total = Counts.none(len(WATCHED))
    for user in range(USERS):
        items = scene.recommender.recommend(user, presets[preset], 10)
        rated, held_out = scene.local.train.items_of(user), scene.local.held_out_of(user)
        total += count_user(items, rated, WATCHED, held_out)
    return replace(total, on_device=USERS)


def added(answered: list[AnswerRecord]) -> Counts:
    total = Counts.none(len(WATCHED))
    for one in answered:
        total += one.counts
    return total


@pytest.mark.parametrize("preset", ["paper", "vicinal"])
def test_devices_the_servers_tally_and_one_process_count_the_same(
    tmp_path: Path, scene: Scene, preset: str
) -> None:
    server = Misbehaving(scene.service())
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        session = Session(connection, VersionStore(tmp_path / "device"), scene.local, preset=preset)
        batches = list(session.answer(range(USERS)))
        tally = endpoint.counted(preset)
    assert [len(batch) for batch in batches] == [USERS // 2, USERS - USERS // 2]
    answered = [one for batch in batches for one in batch]
    assert [one.user for one in answered] == list(range(USERS))
    assert all(one.waited > 0 and one.computed > 0 and one.received > 0 for one in answered)
    expected = in_process(scene, preset)
    assert added(answered) == expected
    assert tally == (2, expected)
    assert expected.user_hits > 0 and expected.users == USERS - 1


def test_a_report_says_nothing_but_counts(tmp_path: Path, scene: Scene) -> None:
    server = Misbehaving(scene.service())
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        store = VersionStore(tmp_path / "device")
        for _ in range(2):
            list(Session(connection, store, scene.local, preset="paper").answer(range(4, 9)))
    first, second = server.reports
    assert first.key != second.key
    assert first.counts == second.counts and sum(first.counts.eligible) <= 10
    assert {field.name for field, _ in first.ListFields()} == {
        "version",
        "preset",
        "key",
        "counts",
        "receipts",
    }


def packed_bytes(session: Session) -> int:
    """What fetching the version that a session has takes, packed."""
    form = session.description.form("float32").digest
    return min(way.size for way in session.description.transfers if way.form == form)


def test_the_version_is_fetched_once(tmp_path: Path, scene: Scene) -> None:
    server = Misbehaving(scene.service())
    store = VersionStore(tmp_path / "device")
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        first = Session(connection, store, scene.local, preset="paper")
        second = Session(connection, store, scene.local, preset="vicinal")
        assert first.version is not None
        assert (first.cold_bytes, second.cold_bytes) == (packed_bytes(first), 0)
        assert packed_bytes(first) < len(scene.data)
        store.path(first.version.digest).write_bytes(b"damaged")
        third = Session(connection, store, scene.local, preset="paper")
    assert third.cold_bytes == first.cold_bytes
    assert server.fetches == [0, 0]


def test_a_manifest_that_does_not_match_the_stored_version_is_refused(
    tmp_path: Path, scene: Scene
) -> None:
    store = VersionStore(tmp_path / "device")
    store.save(scene.recommender.version.digest, scene.data)
    server = Misbehaving(scene.service(), describe=other_manifest)
    with (
        Endpoint(server) as endpoint,
        Connection(endpoint.address) as connection,
        pytest.raises(VicinalError, match="manifest it describes"),
    ):
        Session(connection, store, scene.local, preset="paper")


def test_users_are_answered_again_with_the_version_that_replaced_theirs(
    tmp_path: Path, scene: Scene
) -> None:
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other = with_the_ratings_of(scene, make_scene(other_folder, seed=1))
    endpoint = Endpoint(scene.service())
    with Connection(endpoint.address) as connection:
        store = VersionStore(tmp_path / "device")
        session = Session(connection, store, scene.local, preset="paper")
        batches = session.answer(range(USERS))
        first = next(batches)
        cold = packed_bytes(session)
        endpoint.drain()
        with Endpoint(other.service(), port=endpoint.port) as later:
            second = next(batches)
            assert session.version is not None
            assert session.version.digest == other.recommender.version.digest
            tally = later.counted("paper")
    assert session.cold_bytes == cold + packed_bytes(session)
    assert [one.user for one in first + second] == list(range(USERS))
    assert tally == (1, added(second))


def with_the_ratings_of(scene: Scene, model: Scene) -> Scene:
    """Another model of the same ratings."""
    parameters = dict(model.recommender._offloader.user_parameters)
    stored = StoredModel(model.recommender.version, parameters, model.recommender.path)
    recommender = Recommender(stored, scene.recommender.ratings, USERS)
    return Scene(recommender, model.data, scene.local)


def test_a_server_that_refuses_its_own_version_is_given_up(tmp_path: Path, scene: Scene) -> None:
    service = scene.service()
    digest = service.versions.current.description.version
    with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
        session = Session(
            connection, VersionStore(tmp_path / "device"), scene.local, preset="paper"
        )
        # From now on the server says one thing and does another.
        service.versions._served.clear()
        with pytest.raises(VersionRefusedError, match=f"another version is served: {digest}"):
            list(session.answer([1]))
    assert session.version is not None
    assert session.version.digest == digest


def test_other_ratings_than_the_servers_are_refused(tmp_path: Path, scene: Scene) -> None:
    train = scene.local.train
    levels = train.levels.copy()
    levels[0] ^= 1
    changed = type(train)(train.indptr, train.items, levels, train.item_count, train.scale)
    local = LocalRatings(
        changed, scene.local.held_out, scene.local.held_out_liked, None, scene.local.keys
    )
    store = VersionStore(tmp_path / "device")
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = Session(connection, store, local, preset="paper")
        with pytest.raises(InputError, match="not those of this device"):
            session.answer_one(0)
        assert session.answer_one(1).items
        with pytest.raises(InputError, match="unknown preset 'x': the server offers paper"):
            Session(connection, store, scene.local, preset="x")
        with pytest.raises(InputError, match="not of user 40"):
            next(Session(connection, store, scene.local, preset="paper").answer([0, 40]))


def test_answers_say_how_many_fakes_they_stand(tmp_path: Path, scene: Scene) -> None:
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = Session(
            connection, VersionStore(tmp_path / "device"), scene.local, preset="vicinal"
        )
        one = session.answer_one(0)
        by_server = session._recommender.by_server(session.description, 0)
    settings = session.description.preset("vicinal")
    accounts = scene.recommender.ratings.user_count
    for each in (one, by_server):
        assert each.tolerated_fakes == settings.tolerated_fakes(accounts)
        assert each.required_raters == settings.required_raters(accounts)
