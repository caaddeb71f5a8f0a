"""Turns and versions: one trains at a time, and all begin with a version when all have it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.errors import InputError
from server.cluster import registry as module
from server.cluster.registry import Files, Kept, Registry, Shared, TurnOverError
from server.sql.postgresql import Database
from sims.processes.postgresql import PostgreSQL
from tests.support.places import new_schema

FILES: Files = {"model.safetensors": Kept("a" * 64, 7), "description": Kept("b" * 64, 9)}
VERSIONS = [letter * 64 for letter in "0123456789"]


@pytest.fixture
def schema() -> str:
    return new_schema()


@pytest.fixture
def database(postgresql: PostgreSQL, schema: str) -> Iterator[Database]:
    with Database(postgresql.database(schema)) as opened:
        yield opened


@pytest.fixture
def three(database: Database) -> list[Registry]:
    return [Registry(database, name, f"here:{name}", 60.0) for name in "abc"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEASE_SECONDS", "SEEN_SECONDS", "LEAD_SECONDS"):
        monkeypatch.setattr(module, name, 0.3)


def current(registry: Registry) -> str | None:
    shared = registry.seen().current
    return None if shared is None else shared.version


def test_one_of_many_has_the_turn(three: list[Registry]) -> None:
    with ThreadPoolExecutor(3) as pool:
        turns = [one for one in pool.map(Registry.turn, three) if one is not None]
    assert [turn.fence for turn in turns] == [1]
    again = [one.look(0, train=True).turn for one in three]
    # Who has it keeps it, with the same number.
    assert [turn.fence for turn in again if turn is not None] == [1]
    (holder,) = (one for one, turn in zip(three, again, strict=True) if turn is not None)
    holder.leave()
    (other, *_) = (one for one in three if one is not holder)
    turn = other.turn()
    assert turn is not None and turn.fence == 2


def test_whoever_was_too_late_publishes_nothing(three: list[Registry], short: None) -> None:
    first, second, _ = three
    old = first.turn()
    assert old is not None and second.turn() is None
    deadline = time.monotonic() + 20
    while (new := second.turn()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert new.fence > old.fence
    with pytest.raises(TurnOverError):
        first.stage(VERSIONS[0], 1, 0, FILES, old.fence)
    with pytest.raises(TurnOverError):
        # Nor with a number that it was not given.
        first.stage(VERSIONS[0], 1, 0, FILES, new.fence)
    second.stage(VERSIONS[0], 2, 0, FILES, new.fence)
    with pytest.raises(TurnOverError):
        second.stage(VERSIONS[1], 1, 0, FILES, new.fence)
    assert current(first) == VERSIONS[0]


def test_all_begin_when_all_have_it_and_nobody_waits_for_the_dead(
    three: list[Registry], short: None
) -> None:
    first, second, third = three
    turn = first.look(0, train=True).turn
    assert turn is not None
    second.look(0, train=True)
    first.stage(VERSIONS[0], 5, 0, FILES, turn.fence)
    assert first.look(5, train=True).current is None
    assert second.seen().versions == (Shared(VERSIONS[0], 5, 0, FILES, None, None),)
    # Now both hold it, and it has a moment for both.
    begins = {one.look(5, train=True).versions[0].begins for one in (second, first)}
    assert None not in begins and len(begins) == 2
    third.look(5, train=True)
    time.sleep(0.4)
    assert current(third) == VERSIONS[0]
    turn = first.look(5, train=True).turn
    if turn is None:  # a busy machine: another one has taken it
        return
    # All three have died but this one.
    time.sleep(0.4)
    turn = first.look(5, train=True).turn
    assert turn is not None
    first.stage(VERSIONS[1], 6, 0, FILES, turn.fence)
    first.look(6, train=True)
    time.sleep(0.4)
    sight = first.seen()
    assert [one.version for one in sight.versions] == VERSIONS[:2]
    assert sight.current is not None and sight.current.version == VERSIONS[1]
    assert sight.versions[0].replaced is not None and sight.versions[1].replaced is None


def test_a_training_that_died_is_asked_for_still(three: list[Registry]) -> None:
    first, second, _ = three
    turn = first.turn()
    assert turn is not None and not turn.asked
    first.begin(turn.fence)
    first.leave()
    turn = second.turn()
    assert turn is not None and turn.asked
    number = second.begin(turn.fence)
    # Asked for while it goes on: another one has to follow.
    second.want()
    second.done(turn.fence, number)
    turn = second.turn()
    assert turn is not None and turn.asked
    second.done(turn.fence, second.begin(turn.fence))
    turn = second.turn()
    assert turn is not None and not turn.asked


def test_an_edition_is_of_the_same_version_and_a_version_may_come_back(
    three: list[Registry],
) -> None:
    first = three[0]
    turn = first.turn()
    assert turn is not None
    first.stage(VERSIONS[0], 5, 0, FILES, turn.fence)
    more = {**FILES, "description": Kept("c" * 64, 9), "edition": Kept("d" * 64, 3)}
    first.stage(VERSIONS[0], 6, 1, more, turn.fence)
    (shared,) = first.seen().versions
    assert (shared.publication, shared.edition) == (5, 1)
    assert shared.files == {**more, "description": FILES["description"]}
    first.stage(VERSIONS[1], 7, 0, FILES, turn.fence)
    assert current(first) == VERSIONS[1]
    first.stage(VERSIONS[0], 8, 0, FILES, turn.fence)
    assert current(first) == VERSIONS[0]


def test_bytes_of_versions_that_are_gone_are_named_once_nobody_needs_them(
    database: Database, postgresql: PostgreSQL, schema: str
) -> None:
    registry = Registry(database, "a", "", 0.0)
    turn = registry.turn()
    assert turn is not None
    own = {"model.safetensors": Kept("e" * 64, 7)}
    registry.stage(VERSIONS[0], 1, 0, {**FILES, **own}, turn.fence)
    assert registry.stage(VERSIONS[1], 2, 0, FILES, turn.fence) == set()
    registry.seen()
    with postgresql.connect() as other:
        other.execute(f"UPDATE {schema}.versions SET replaced = replaced - interval '1 day'")
    assert registry.stage(VERSIONS[2], 3, 0, FILES, turn.fence) == {"e" * 64}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("digest = '../../etc'", "a version that is none"),
        ("publication = -1", "numbers"),
        ("edition = 1 << 30", "numbers"),
        ("files = '{\"../../up\": [\"' || repeat('a', 64) || '\", 1]}'", "files of a version"),
        ('files = \'{"description": ["x", 1]}\'', "files of a version"),
        ("files = '{\"ids\": [\"' || repeat('a', 64) || '\", -1]}'", "files of a version"),
        ("files = repeat('[', 5000)", "files of a version"),
        ("files = repeat('x', 5000000)", "files of a version"),
        ("files = '7'", "files of a version"),
    ],
)
def test_what_no_server_has_written_is_refused(
    three: list[Registry], postgresql: PostgreSQL, schema: str, change: str, text: str
) -> None:
    turn = three[0].turn()
    assert turn is not None
    three[0].stage(VERSIONS[0], 1, 0, FILES, turn.fence)
    with postgresql.connect() as other:
        other.execute(f"UPDATE {schema}.versions SET {change}")
    for look in (three[1].seen, lambda: three[1].look(0, train=True)):
        with pytest.raises(InputError, match=text) as refused:
            look()
        assert len(str(refused.value)) < 200
