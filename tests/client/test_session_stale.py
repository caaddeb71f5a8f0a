"""Devices whose server is killed, and comes back."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from client import session as module
from client.answers import AnswerRecord
from client.disclosure import Disclosure
from client.link.connection import Connection, NoAnswerError
from client.session import Session
from client.stores.packages import PackageStore
from client.stores.versions import VersionStore
from common.errors import VicinalError
from common.wire import offload_pb2 as wire
from server.reports.reading import read_counts
from tests.support.modules import ENVIRONMENT, ROOT, command
from tests.support.serving import LARGE_ITEMS, Endpoint, Misbehaving, Scene, make_scene

Start = Callable[[Path, int], tuple[subprocess.Popen[bytes], int]]


@pytest.fixture
def started() -> Iterator[Start]:
    """Starts server processes, which are gone when the test is over."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, port: int) -> tuple[subprocess.Popen[bytes], int]:
        (folder / "ready").unlink(missing_ok=True)
        server = subprocess.Popen(
            command("tests.support.serving", str(folder), str(port), "0"),
            cwd=ROOT,
            env=ENVIRONMENT,
        )
        servers.append(server)
        deadline = time.monotonic() + 60
        while not (folder / "ready").exists():
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.02)
        return server, int((folder / "ready").read_text())

    yield start
    for server in servers:
        server.kill()
        server.wait()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def opened(connection: Connection, folder: Path, scene: Scene, preset: str = "paper") -> Session:
    return Session(
        connection,
        VersionStore(folder),
        scene.local,
        preset=preset,
        packages=PackageStore(folder / "packages", connection.address),
        disclosure=Disclosure(least_users=1),
    )


@contextmanager
def no_server(connection: Connection) -> Iterator[None]:
    """While there is none, nobody has to wait for long."""
    patience, connection._patience = connection._patience, 0.5
    yield
    connection._patience = patience


def ways(answered: list[AnswerRecord]) -> list[tuple[int, int, int]]:
    return [(one.counts.on_device, one.counts.stale, one.counts.by_server) for one in answered]


def test_a_killed_server_leaves_the_last_answers_and_counts_again_when_it_is_back(
    tmp_path: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = make_scene(tmp_path, items=LARGE_ITEMS)
    server, port = started(tmp_path, 0)
    folder, users = tmp_path / "device", [4, 5, 6]
    with Connection(f"127.0.0.1:{port}", patience=20) as connection:
        session = opened(connection, folder, large)
        (fresh,) = session.answer(users)
    assert ways(fresh) == [(1, 0, 0)] * 3 and all(one.reported for one in fresh)
    server.kill()
    server.wait()
    # In the middle of a session, then in a process that never saw the server.
    with Connection(f"127.0.0.1:{port}", patience=0.5) as connection:
        for _ in range(2):
            session = opened(connection, folder, large)
            begun = time.monotonic()
            (stale,) = session.answer(users)
            assert time.monotonic() - begun < 10
            assert ways(stale) == [(0, 1, 0)] * 3
            assert [one.items for one in stale] == [one.items for one in fresh]
            assert {one.version for one in stale} == {fresh[0].version}
            assert all(one.age > 0 and one.received == 0 for one in stale)
            assert not any(one.reported for one in stale)
        with pytest.raises(NoAnswerError, match="no answer from a server"):
            session.answer_one(7)
    started(tmp_path, port)
    monkeypatch.setattr(module, "AWAY_SECONDS", 0.0)
    with Connection(f"127.0.0.1:{port}", patience=20) as connection:
        session._ask_again = 0.0
        session._connection = session._recommender._connection = connection
        (again,) = session.answer([*users, 7])
        version = connection.describe().version
    reports, counts = read_counts(tmp_path / "tally.sqlite", version, "paper")
    assert ways(again) == [(1, 0, 0)] * 4 and all(one.reported for one in again)
    assert (reports, counts.on_device, counts.stale) == (2, 7, 0)


def test_stale_answers_before_the_server_is_back_are_counted_as_such(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint(scene.service())
    with Connection(endpoint.address, patience=60) as connection:
        session = opened(connection, tmp_path / "device", scene)
        list(session.answer([4, 5]))
        endpoint.drain()
        with no_server(connection):
            stale = session.answer_one(4)
        with Endpoint(scene.service(), port=endpoint.port) as later:
            session._ask_again = 0.0
            reported = session._report([stale, session.answer_one(5)])
            tally = later.counted("paper")
    assert ways(reported) == [(0, 1, 0), (1, 0, 0)] and all(one.reported for one in reported)
    assert (tally[0], tally[1].stale, tally[1].on_device) == (1, 1, 1)


def test_a_server_that_stays_saturated_is_left_alone_for_as_long_as_it_says(
    tmp_path: Path, scene: Scene
) -> None:
    folder = tmp_path / "device"
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        list(opened(connection, folder, scene).answer([4]))
    full = scene.service(refusals=1000)
    with (
        Endpoint(full, port=endpoint.port),
        Connection(endpoint.address, patience=60) as connection,
    ):
        session = opened(connection, folder, scene)
        begun = time.monotonic()
        with no_server(connection):
            assert session.answer_one(4).counts.stale == 1
        assert begun < session._ask_again < time.monotonic() + 0.2, "it asked for 0.15 s, not 30"
        full._workers._refusals = 0  # type: ignore[attr-defined]  # as InProcess has it
        time.sleep(0.2)
        assert session.answer_one(4).counts.on_device == 1


def test_stale_answers_of_other_settings_are_not_reported(tmp_path: Path, scene: Scene) -> None:
    folder, changed = tmp_path / "device", scene.description()
    longer = replace(changed, list_length=changed.list_length + 1)
    endpoint = Endpoint(scene.service())
    with Connection(endpoint.address, patience=60) as connection:
        session = opened(connection, folder, scene)
        session.answer_one(4)
        session.description = longer
        endpoint.drain()
        with no_server(connection):
            (stale,) = session.answer([4])
        assert not stale[0].comparable and len(stale[0].items) == changed.list_length
        with Endpoint(scene.service(), port=endpoint.port) as later:
            session._away = None
            (answered,) = session._report(stale)
            assert not answered.reported
            assert later.counted("paper")[0] == 0


@pytest.mark.parametrize("what", ["package", "version", "nothing"])
def test_without_a_sound_package_and_model_the_error_is_as_before(
    tmp_path: Path, scene: Scene, what: str
) -> None:
    folder = tmp_path / "device"
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = opened(connection, folder, scene)
        list(session.answer([4]))
    assert session.version is not None
    damaged = {
        "package": PackageStore(folder / "packages", endpoint.address).path(4, "paper"),
        "version": VersionStore(folder).path(session.version.digest),
    }
    for path in [damaged[what]] if what in damaged else []:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    if what == "nothing":
        folder = tmp_path / "other"
    with (
        Connection(endpoint.address, patience=0.3) as connection,
        pytest.raises(NoAnswerError, match="no answer from a server"),
    ):
        opened(connection, folder, scene)


def test_a_server_that_watches_other_items_by_now_ends_the_session(
    tmp_path: Path, scene: Scene
) -> None:
    endpoint = Endpoint(scene.service())
    with Connection(endpoint.address, patience=60) as connection:
        session = opened(connection, tmp_path / "device", scene)
        session.answer_one(4)
        endpoint.drain()
        with no_server(connection):
            assert session.answer_one(4).counts.stale == 1
        session._ask_again = 0.0

        def other(said: wire.Description) -> wire.Description:
            said.watched_items[0] += 1
            return said

        server = Misbehaving(scene.service(), describe=other)
        with (
            Endpoint(server, port=endpoint.port),
            pytest.raises(VicinalError, match="watches other items"),
        ):
            session.answer_one(4)
