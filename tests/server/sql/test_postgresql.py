"""PostgreSQL that servers share: what is refused, what many do at once, what a kill leaves."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from common.errors import InputError
from common.ranking import Counts
from server.reports.reading import read_shared_tally
from server.reports.report import Report
from server.reports.tally import Tally, TallyError
from server.sql.postgresql import Database
from server.sql.schema import FORM
from server.sql.statements import MAX_TEXT, SqlError
from server.trust.budgets import BudgetAwayError, BudgetSpentError
from server.trust.shared_budgets import SharedBudget
from server.trust.token_tables import add_shared_key, read_shared_keys, shared_keys
from sims.processes.postgresql import PostgreSQL
from tests.support.places import new_schema

ONE = Counts((1, 0), (1, 0), 1, 1, 1, 1)


@pytest.fixture
def schema() -> str:
    return new_schema()


@pytest.fixture
def address(postgresql: PostgreSQL, schema: str) -> str:
    return postgresql.database(schema)


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    with Database(address) as opened:
        yield opened


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda good: good.replace("ann@", "ann:pw@"), "a password here would stand in process"),
        (lambda good: good + "&password=pw", "a password here would stand in process"),
        (lambda good: good + "&table=ratings", "leave table=… out"),
        (lambda good: good + "&colour=blue", "colour"),
        (lambda good: good.replace("postgresql:", "mysql:"), "give postgresql://USER@HOST"),
        (lambda _good: "postgresql", "give postgresql://USER@HOST"),
        (lambda good: good.split("schema=")[0] + "schema=pg_own", "no name of a schema"),
        (lambda good: good.split("schema=")[0] + "schema=" + 64 * "x", "no name of a schema"),
        (lambda good: good.replace("/postgres?", "/nothing?"), "does not exist"),
        (lambda _good: "postgresql://ann@127.0.0.1:9/postgres", "refused"),
        (lambda good: good.replace("ann@", "bob@"), "authentication failed"),
    ],
)
def test_an_address_that_cannot_be_used_is_said_in_one_line(
    address: str, change: object, text: str
) -> None:
    assert callable(change)
    with pytest.raises(InputError, match=text) as refused:
        Database(change(address))
    said = str(refused.value)
    assert "\n" not in said and "pw" not in said and PostgreSQL.PASSWORD not in said


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE {}.about SET form = 7", f"format 7, not {FORM}"),
        ("CREATE VIEW {}.theirs AS SELECT 1", "views, functions or triggers"),
        (
            "CREATE FUNCTION {}.now() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "views, functions or triggers",
        ),
        ("CREATE RULE none AS ON DELETE TO {}.keys DO INSTEAD NOTHING", "views, functions"),
        ("DROP TABLE {}.about", "not this program's"),
    ],
)
def test_tables_that_do_not_fit_are_said_in_one_line(
    address: str, postgresql: PostgreSQL, schema: str, statement: str, text: str
) -> None:
    Database(address).close()
    with postgresql.connect() as other:
        other.execute(statement.format(schema))
    with pytest.raises(InputError, match=text) as refused:
        Database(address)
    assert "\n" not in str(refused.value)


def test_servers_that_start_together_make_the_tables_once(address: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda _: Database(address), range(6)))
    for one in opened:
        one.close()


def test_it_is_for_one_data_set(database: Database) -> None:
    for _ in range(2):
        database.require("dataset", "ml-100k", "is of another data set")
    with pytest.raises(InputError, match="is of another data set"):
        database.require("dataset", "ml-1m", "is of another data set")
    database.require("served", "mf", "serves something else")


def test_a_secret_is_one_for_all(database: Database, address: str) -> None:
    with Database(address) as other, ThreadPoolExecutor(8) as pool:
        given = [bytes([number]) * 32 for number in range(8)]
        found = set(pool.map(lambda one: other.secret("receipts", one), given))
        found.add(database.secret("receipts", b"x" * 32))
    assert len(found) == 1 and found <= set(given)


def test_many_servers_count_each_report_once(address: str) -> None:
    """The same reports come to three tallies at a time, as from devices that ask again."""
    databases = [Database(address) for _ in range(3)]
    tallies = [Tally(users=10, eligible=(9, 8), database=each) for each in databases]
    keys = [str(number % 200) for number in range(600)]
    with ThreadPoolExecutor(12) as pool:
        counted = list(
            pool.map(lambda at: tallies[at % 3].add("v", "p", keys[at], ONE), range(len(keys)))
        )
    assert sum(counted) == 200
    for tally in tallies:
        assert tally.total("v", "p") == (200, Counts((200, 0), (200, 0), 200, 200, 200, 200))
        tally.close()
    ((whose, sums),) = read_shared_tally(databases[0]).items()
    assert (whose.version, whose.measured, sums.reports) == ("v", "", 200)
    for each in databases:
        each.close()


@pytest.mark.parametrize("limits", [(5, None), (None, 5)])
def test_many_servers_show_no_more_than_one(
    address: str, limits: tuple[int | None, int | None]
) -> None:
    with Database(address) as one, Database(address) as other:
        budgets = [SharedBudget(each, *limits, clock=lambda: 0.0) for each in (one, other)]

        def ask(at: int) -> bool:
            user, neighbor = (7, 100 + at) if limits[0] else (100 + at, 7)
            shown = np.array([neighbor], dtype=np.uint32)
            try:
                asyncio.run(budgets[at % 2].spend(user, shown))
            except BudgetSpentError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(ask, range(24))) == 5


def test_what_a_hostile_database_says_is_checked(
    database: Database, postgresql: PostgreSQL, schema: str
) -> None:
    Tally(users=10, eligible=(9, 8), database=database).close()
    with postgresql.connect() as other:
        for counts in ("[[1],[2],0,0,0,0,0,0,0]", "7", "[" * 5000, "x" * (MAX_TEXT + 1)):
            other.execute(f"DELETE FROM {schema}.totals")
            other.execute(f"INSERT INTO {schema}.totals VALUES ('v', 'p', '', 1, %s)", (counts,))
            with pytest.raises(InputError, match="cannot be used") as refused:
                Tally(users=10, eligible=(9, 8), database=database)
            assert len(str(refused.value)) < 500
            with pytest.raises(InputError, match="cannot be read"):
                read_shared_tally(database)
        other.execute(f"INSERT INTO {schema}.token_keys (name, secret) VALUES ('short', 'x')")
    with pytest.raises(InputError, match="token keys that are none"):
        read_shared_keys(database)


def test_keys_of_tokens_are_shared_and_the_newest_signs(database: Database) -> None:
    with pytest.raises(InputError, match="holds no token keys"):
        read_shared_keys(database)
    first = add_shared_key(database)
    keys = read_shared_keys(database)
    old = keys.token(range(3), days=1)
    second = add_shared_key(database)
    assert list(shared_keys(database)) == [second, first]
    both = read_shared_keys(database)
    assert both.users(old) == range(3)
    keys.replace(shared_keys(database))
    assert keys.users(both.token(range(5), days=1)) == range(5)


@pytest.mark.slow
def test_a_database_that_is_killed_loses_nothing_and_is_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", PostgreSQL.PASSWORD)
    with PostgreSQL() as running, Database(running.database()) as database:
        tally = Tally(users=10**6, eligible=(10**6, 10**6), database=database)
        budget = SharedBudget(database, 5, clock=lambda: 0.0)
        told: dict[str, bool] = {}
        over = threading.Event()

        def report(place: int) -> None:
            number = 0
            while not over.is_set():
                key, number = f"{place}-{number}", number + 1
                while not over.is_set():
                    try:
                        told[key] = tally.add("v", "p", key, ONE)
                        break
                    except TallyError:
                        # As a device does: the same report again.
                        told.setdefault(key, False)

        threads = [threading.Thread(target=report, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = len(told)
            while len(told) < before + 100:
                over.wait(0.05)
            running.kill()
            with pytest.raises(BudgetAwayError):
                asyncio.run(budget.spend(1, np.array([2], dtype=np.uint32)))
            with pytest.raises(SqlError):
                database.now()
            running.start()
        before = len(told)
        while len(told) < before + 100:
            over.wait(0.05)
        over.set()
        for thread in threads:
            thread.join()
        # Each report was told to be new, or was counted by a commit whose end nobody heard of.
        reports, _ = tally.total("v", "p")
        assert sum(told.values()) <= reports <= len(told)
        again = [tally.submit(Report("v", "p", key, ONE)).result() for key in told]
        assert tally.total("v", "p")[0] == len(told) == reports + sum(again)
        assert not any(new for new, key in zip(again, told, strict=True) if told[key])
        tally.close()
