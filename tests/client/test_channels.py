"""Several servers that are one: a device asks them in turns, and waits for none that is gone."""

import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.link.channel import Access
from client.link.channels import Channels
from client.link.connection import Connection, NoAnswerError
from client.session import Session
from client.stores.publications import OlderVersionError
from client.stores.versions import VersionStore
from common.errors import InputError
from common.wire import offload_pb2 as wire
from tests.support.serving import Endpoint, Misbehaving, Scene, make_scene

USER = 7


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def dead() -> Iterator[str]:
    """A port where nobody answers, and nobody else begins to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    yield address


@pytest.fixture
def mute() -> Iterator[str]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_calls_take_turns(scene: Scene) -> None:
    asked: Counter[int] = Counter()
    servers = [
        Misbehaving(scene.service(), before=lambda at=at: asked.update([at]))  # type: ignore[misc]  # bound
        for at in range(3)
    ]
    opened = [Endpoint(server) for server in servers]
    try:
        addresses = ",".join(one.address for one in opened)
        with Connection(addresses) as connection:
            description = connection.describe()
            lists = {tuple(connection.recommend(description, USER, "paper")) for _ in range(9)}
        assert len(lists) == 1 and asked == {0: 3, 1: 3, 2: 3}
    finally:
        for one in opened:
            one.drain()


def test_one_that_is_gone_costs_nobody_an_answer(scene: Scene, dead: str) -> None:
    with Endpoint(scene.service()) as endpoint:
        with Connection(f"{dead},{endpoint.address}", patience=20) as connection:
            description = connection.describe()
            for _ in range(6):
                assert connection.recommend(description, USER, "paper")
        with pytest.raises(NoAnswerError), Connection(dead, patience=0.5) as connection:
            connection.describe()


def test_one_that_says_nothing_leaves_time_for_another(scene: Scene, mute: str) -> None:
    with (
        Endpoint(scene.service()) as endpoint,
        Connection(f"{mute},{endpoint.address}", patience=20) as connection,
    ):
        for _ in range(4):
            connection.describe()


def test_a_version_is_fetched_on_from_another_server(scene: Scene, tmp_path: Path) -> None:
    """The first breaks off; its bytes and the rest are those of the version."""

    def breaks(chunks: Iterator[wire.ModelChunk], _offset: int) -> Iterator[wire.ModelChunk]:
        yield next(chunks)
        raise ConnectionError

    large = make_scene(tmp_path, items=20_000)
    broken, whole = Misbehaving(large.service(), mangle=breaks), Misbehaving(large.service())
    with Endpoint(broken) as one, Endpoint(whole) as other:
        for _ in range(4):
            with Connection(f"{one.address},{other.address}", patience=20) as connection:
                description = connection.describe()
                assert connection.fetch_model(description).data == large.data
    assert any(offset for offset in whole.fetches)


def test_addresses_have_one_name_in_any_order(dead: str) -> None:
    with Connection(f"{dead},127.0.0.1:9") as one, Connection(f"127.0.0.1:9, {dead}") as other:
        assert one.address == other.address
    with pytest.raises(InputError, match="no server"):
        Connection(f"{dead},")
    with pytest.raises(InputError, match="64 at most"):
        Connection(",".join(f"127.0.0.1:{port}" for port in range(1, 67)))
    with pytest.raises(InputError, match="another machine"):
        Connection(f"{dead},192.0.2.1:9")


def test_whoever_did_not_answer_is_asked_last(dead: str) -> None:
    channels = Channels("127.0.0.1:7,127.0.0.1:8,127.0.0.1:9", Access())
    stubs = [channels.turn() for _ in range(3)]
    assert len({id(one) for one in stubs}) == 3
    assert channels.leave(60.0)
    gone = stubs[-1]
    assert gone not in [channels.turn() for _ in range(6)]
    assert channels.leave(90.0)
    channels.turn()
    assert not channels.leave(120.0)
    # All are away: the one who comes back first.
    assert channels.turn() is gone
    channels.close()


def test_a_server_that_is_a_moment_behind_is_waited_for(scene: Scene, tmp_path: Path) -> None:
    begun = time.monotonic()

    def described(said: wire.Description) -> wire.Description:
        said.publication = 1_000_000 if time.monotonic() > begun + 0.5 else 999_999
        return said

    with (
        Endpoint(Misbehaving(scene.service(), describe=described)) as endpoint,
        Connection(endpoint.address) as connection,
    ):

        def session() -> Session:
            return Session(connection, VersionStore(tmp_path), scene.local, preset="paper")

        first = session()
        first._published.check(connection.address, 1_000_000)
        assert session().description.publication == 1_000_000
        first._published.check(connection.address, 1_000_001)
        with pytest.raises(OlderVersionError):
            first._open()
