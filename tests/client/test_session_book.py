"""Devices that answer from a book: what they ask, and what goes on without a server."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import session as module
from client.answers import AnswerRecord
from client.budget import Budget
from client.disclosure import Disclosure
from client.link.connection import AccessRefusedError, Connection, NoAnswerError
from client.session import Session
from client.stores.books import BookStore
from client.stores.packages import PackageStore
from client.stores.versions import VersionStore
from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.vicinal.book import Release
from common.wire import offload_pb2 as wire
from server.front.service import BOOK_TEXT
from server.recommending.book import BookRecommender, BookSettings
from server.versions.books import KEY_FILE, noise_key
from tests.support.scenes import BOOK_PRESETS
from tests.support.serving import USERS, WATCHED, Endpoint, Misbehaving, Scene, make_scene

HOW = BOOK_PRESETS["vicinal"]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path, release="book")


def opened(
    connection: Connection,
    folder: Path,
    scene: Scene,
    *,
    release: Release | None = None,
    slim: bool = False,
    least: int = 1,
    stale: bool = True,
) -> Session:
    return Session(
        connection,
        VersionStore(folder),
        scene.local,
        preset="vicinal",
        packages=PackageStore(folder / "packages", connection.address) if stale else None,
        slim=slim,
        disclosure=Disclosure(least_users=least),
        release=release,
        books=BookStore(folder / "books", connection.address),
    )


def in_process(scene: Scene) -> list[tuple[int, ...]]:
    """The lists of `vicinal evaluate --release book`, with the server's key."""
    assert scene.book is not None
    key = scene.recommender.path.with_suffix(".store") / KEY_FILE
    settings = BookSettings.of(HOW.tolerated_fakes(scene.recommender.ratings.user_count))
    answering = BookRecommender(scene.recommender, HOW, noise_key(key.read_bytes(), settings))
    return [tuple(answering.recommend(user, HOW, 10).tolist()) for user in range(USERS)]


def lists(answered: list[AnswerRecord]) -> list[tuple[int, ...]]:
    return [one.items for one in answered]


def calls(connection: Connection) -> Counter[str]:
    """Counts what a device asks from now on."""
    counted: Counter[str] = Counter()
    (stub,) = connection._channels._stubs

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **how: Any) -> Any:
            counted[name] += 1
            return call(*arguments, **how)

        return ask

    for name in ("Describe", "FetchModel", "GetPackage", "Recommend", "GetReceipts", "Report"):
        setattr(stub, name, counting(name, getattr(stub, name)))
    return counted


def test_devices_the_tally_and_one_process_say_the_same_and_no_user_is_asked_for(
    tmp_path: Path, scene: Scene
) -> None:
    server = Misbehaving(scene.service())
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        asked = calls(connection)
        session = opened(connection, tmp_path / "device", scene)
        answered = [one for batch in session.answer(range(USERS)) for one in batch]
        tally = endpoint.counted("vicinal")
    assert lists(answered) == in_process(scene)
    assert asked == {"Describe": 1, "FetchModel": 2, "GetReceipts": 2, "Report": 2}
    total = Counts.none(len(WATCHED))
    for one in answered:
        total += one.counts
    assert tally == (2, total) and total.on_device == USERS
    assert all(one.reported and one.received == 0 and one.waited == 0 for one in answered)
    assert all(one.tolerated_fakes == one.required_raters == 0 for one in answered)
    # All that is listed goes before all that is not.
    assert scene.book is not None
    listed = scene.book.book.listed
    assert listed.any() and not listed.all()
    orders = [listed[np.asarray(one.items)] for one in answered]
    assert all((np.sort(order)[::-1] == order).all() for order in orders)
    assert any(order.any() for order in orders)


def test_whoever_asks_for_rows_is_refused_in_one_line(tmp_path: Path, scene: Scene) -> None:
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        description = connection.describe()
        own = scene.local.own(3)
        for ask in (
            lambda: connection.package(description, 3, "vicinal", own),
            lambda: connection.package(description, 3, "vicinal", own, slim=True),
            lambda: connection.recommend(description, 3, "vicinal"),
            lambda: connection.package(description, USERS + 9, "vicinal", own),
        ):
            with pytest.raises(AccessRefusedError, match=BOOK_TEXT):
                ask()


def test_a_device_of_before_books_ends_with_that_line(tmp_path: Path, scene: Scene) -> None:
    """It does not know the field, and asks for a package."""

    def unknown(said: wire.Description) -> wire.Description:
        said = wire.Description.FromString(said.SerializeToString())
        said.ClearField("book")
        return said

    server = Misbehaving(scene.service(), describe=unknown)
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        session = opened(connection, tmp_path / "device", scene)
        with pytest.raises(AccessRefusedError, match=BOOK_TEXT):
            list(session.answer([3]))


def test_it_goes_on_for_good_when_the_server_is_gone(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = in_process(scene)
    with Endpoint(scene.service()) as endpoint:
        connection = Connection(endpoint.address)
        session = opened(connection, tmp_path / "device", scene, release="book")
    connection._patience = 0.3
    asked = calls(connection)
    # In the middle of a session, then in a process that never saw the server, a year later.
    answered = [one for batch in session.answer(range(USERS)) for one in batch]
    assert lists(answered) == expected
    assert not any(one.reported for one in answered)
    # The first report found nobody, and none was tried after it.
    assert set(asked) <= {"GetReceipts"}
    asked.clear()
    year_on = time.time() + 365 * 86_400
    monkeypatch.setattr(time, "time", lambda: year_on)
    later = opened(connection, tmp_path / "device", scene, release="book")
    again = [one for batch in later.answer([*range(USERS)] * 5) for one in batch]
    assert lists(again) == expected * 5
    assert set(asked) == {"Describe"}
    assert [one.counts.stale for one in again] == [0] * 5 * USERS
    connection.close()


def test_reports_go_on_when_the_server_is_back(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = scene.service()
    with Endpoint(service) as endpoint:
        port = endpoint.port
        connection = Connection(endpoint.address)
        session = opened(connection, tmp_path / "device", scene)
    connection._patience = 0.3
    (away,) = session.answer([1, 2])
    monkeypatch.setattr(module, "AWAY_SECONDS", 0.0)
    session._ask_again = 0.0
    connection._patience = 20
    with Endpoint(scene.service(), port=port) as endpoint:
        (back,) = session.answer([1, 2])
        assert endpoint.counted("vicinal")[0] == 1
    assert [one.reported for one in (*away, *back)] == [False, False, True, True]
    connection.close()


def test_where_no_stale_answer_is_wanted_there_has_to_be_a_server(
    tmp_path: Path, scene: Scene
) -> None:
    with Endpoint(scene.service()) as endpoint:
        connection = Connection(endpoint.address)
        opened(connection, tmp_path / "device", scene)
    connection._patience = 0.3
    with pytest.raises(NoAnswerError):
        opened(connection, tmp_path / "device", scene, stale=False)
    connection.close()


def test_a_report_that_is_not_sent_asks_for_no_receipts(tmp_path: Path, scene: Scene) -> None:
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = opened(connection, tmp_path / "device", scene, least=5)
        asked = calls(connection)
        (answered,) = session.answer([3, 4])
    assert not asked
    assert all("5 users at least" in one.untold for one in answered)


def test_users_whom_the_server_does_not_know_are_answered_and_not_reported(
    tmp_path: Path, scene: Scene
) -> None:
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = opened(connection, tmp_path / "device", scene)
        session._connection.receipts = (  # type: ignore[method-assign]
            lambda *asked: Connection.receipts(connection, asked[0], [USERS + 1], asked[2])
        )
        (answered,) = session.answer([3])
    assert answered[0].items and "choose users 0–39" in answered[0].untold


@pytest.mark.parametrize(
    ("given", "wanted", "slim", "line"),
    [
        ("rows", "book", False, "it has no book"),
        ("book", "rows", False, "take --release book"),
        ("book", None, True, "leave out --slim"),
    ],
)
def test_what_is_not_given_is_told(
    tmp_path: Path, given: Release, wanted: Release | None, slim: bool, line: str
) -> None:
    scene = make_scene(tmp_path, release=given)
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        asked = calls(connection)
        with pytest.raises(InputError, match=line):
            opened(connection, tmp_path / "device", scene, release=wanted, slim=slim)
    assert set(asked) == {"Describe"}


def test_a_server_that_stops_giving_books_is_not_asked_for_a_user(
    tmp_path: Path, scene: Scene
) -> None:
    """A device that was told to take a book goes on with the one that it has."""
    with Endpoint(scene.service()) as endpoint:
        port = endpoint.port
        connection = Connection(endpoint.address, patience=5)
        session = opened(connection, tmp_path / "device", scene, release="book")
    session._left(NoAnswerError("gone"))
    session._ask_again = 0.0
    rows = replace(scene, release="rows")
    asked = calls(connection)
    with Endpoint(rows.service(), port=port):
        (answered,) = session.answer([3])
    assert answered[0].items == in_process(scene)[3]
    assert "it has no book" in answered[0].untold
    assert set(asked) == {"Describe"}
    connection.close()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"mu": 0.1, "mu_life": 9.0}, "its μ is"),
        ({"mu": float("nan")}, "is none"),
        ({"mu_life": 0.01}, "is none"),
        ({"digest": "../x"}, "not a SHA-256"),
        ({"bytes": 1 << 30}, "does not fit"),
        ({"bytes": 0}, "does not fit"),
        ({"bytes": 7}, "arrived damaged"),
    ],
)
def test_a_book_that_is_not_what_was_said_is_not_used(
    tmp_path: Path, scene: Scene, change: dict[str, Any], line: str
) -> None:
    def lie(said: wire.Description) -> wire.Description:
        said = wire.Description.FromString(said.SerializeToString())
        for name, value in change.items():
            setattr(said.book, name, value)
        return said

    server = Misbehaving(scene.service(), describe=lie)
    with (
        Endpoint(server) as endpoint,
        Connection(endpoint.address) as connection,
        pytest.raises(VicinalError, match=line),
    ):
        opened(connection, tmp_path / "device", scene)
    assert not list((tmp_path / "device").glob("books/*"))


def test_receipts_have_to_be_as_many_as_were_asked_for(tmp_path: Path, scene: Scene) -> None:
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = opened(connection, tmp_path / "device", scene)
        (stub,) = connection._channels._stubs
        real = stub.GetReceipts

        def one_of_two(*asked: Any, **how: Any) -> wire.ReceiptsReply:
            return wire.ReceiptsReply(receipts=real(*asked, **how).receipts[:1])

        stub.GetReceipts = one_of_two
        with pytest.raises(VicinalError, match="1 receipts for 2 users"):
            list(session.answer([1, 2]))


def test_an_answer_over_the_budget_is_refused(tmp_path: Path, scene: Scene) -> None:
    with Endpoint(scene.service()) as endpoint:
        with Connection(endpoint.address) as connection:
            opened(connection, tmp_path / "device", scene)
        with Connection(endpoint.address, budget=Budget(seconds=1e-7)) as connection:
            session = opened(connection, tmp_path / "device", scene)
            with pytest.raises(VicinalError, match="this device allows"):
                session.answer_one(3)


@pytest.mark.parametrize("place", [0, 20, 34, 60, -1])
def test_a_kept_book_that_was_damaged_is_deleted(tmp_path: Path, scene: Scene, place: int) -> None:
    with Endpoint(scene.service()) as endpoint:
        connection = Connection(endpoint.address)
        opened(connection, tmp_path / "device", scene)
    connection._patience = 0.2
    store = BookStore(tmp_path / "device" / "books", connection.address)
    data = bytearray(store.path.read_bytes())
    kept = store.load()
    assert kept is not None and scene.book is not None
    np.testing.assert_array_equal(kept.book.items, scene.book.book.items)
    assert kept.description == scene.description()
    other = BookStore(tmp_path / "device" / "books", "127.0.0.1:1")
    other.path.write_bytes(data)
    assert other.load() is None and not other.path.exists()
    data[place] ^= 1
    store.path.write_bytes(data)
    with pytest.raises(NoAnswerError):
        opened(connection, tmp_path / "device", scene)
    assert not store.path.exists()
    connection.close()


def test_only_a_few_users_and_each_once_get_receipts(scene: Scene) -> None:
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        description = connection.describe()
        for users in ([], [3, 3], list(range(26))):
            with pytest.raises(InputError, match="1–25 users"):
                connection.receipts(description, users, "vicinal")
        with pytest.raises(InputError, match="choose users 0–39"):
            connection.receipts(description, [USERS], "vicinal")


def test_rows_bring_their_receipts_with_them(tmp_path: Path) -> None:
    rows = make_scene(tmp_path)
    with (
        Endpoint(rows.service()) as endpoint,
        Connection(endpoint.address) as connection,
        pytest.raises(InputError, match="bring their receipts"),
    ):
        connection.receipts(connection.describe(), [3], "vicinal")
