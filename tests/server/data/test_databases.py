"""Ratings in databases: the same as from a file of the same rows, or one clear line."""

import os
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest

from common.errors import InputError
from server.data.databases import AwayError, table_of
from server.data.datasets import load_dataset
from server.data.reading_options import ReadingOptions
from sims.processes.postgresql import PostgreSQL

ROWS = [(f"u{u}", f"i;{i}'\"", (u * i) % 5 + 1, 1_000_000 + u) for u in range(9) for i in range(7)]
NAME = 'odd "name" x'
COLUMNS = ReadingOptions.of(columns=["user=who is", "item=what", "rating=how", "time=when"])


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQL]:
    with PostgreSQL() as running:
        with running.connect() as connection:
            connection.execute(
                'CREATE TABLE "odd ""name"" x" '
                '("who is" text, what varchar(20), how real, "when" timestamptz, extra int)'
            )
            with connection.cursor() as cursor:
                cursor.executemany(
                    'INSERT INTO "odd ""name"" x" VALUES (%s, %s, %s, to_timestamp(%s), 3)', ROWS
                )
            connection.execute("CREATE TABLE ratings (user_id int, item_id bigint, rating int)")
            connection.execute("INSERT INTO ratings VALUES (1, 10, 5), (1, 11, 1), (7, 10, 3)")
            connection.execute("CREATE TABLE nobodys AS SELECT * FROM ratings LIMIT 0")
            connection.execute("CREATE ROLE bob LOGIN PASSWORD 'other words'")
        yield running


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PostgreSQL.PASSWORD)


@pytest.fixture
def expected(tmp_path: Path) -> str:
    frame = pl.DataFrame(ROWS, schema=["user", "item", "rating", "timestamp"], orient="row")
    frame.write_csv(tmp_path / "rows.csv")
    return load_dataset(str(tmp_path / "rows.csv")).ratings.digest()


def encoded(name: str) -> str:
    return name.replace('"', "%22").replace(" ", "%20")


def test_a_table_of_postgresql_is_as_a_file(database: PostgreSQL, expected: str) -> None:
    found = load_dataset(database.address(encoded(NAME)), reading=COLUMNS)
    assert found.ratings.digest() == expected
    assert found.timestamps is not None and found.timestamps[0] == 1_000_000
    assert found.ratings.item_ids is not None and "i;3'\"" in found.ratings.item_ids
    plain = load_dataset(database.address())
    assert plain.ratings.user_ids == ("1", "7") and plain.ratings.item_ids == ("10", "11")


def test_nothing_is_written_into_postgresql(database: PostgreSQL) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE touched (n int)")
        connection.execute(
            "CREATE FUNCTION spoil() RETURNS int LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO touched VALUES (1); RETURN 1; END $$"
        )
        connection.execute(
            "CREATE VIEW trap AS SELECT user_id, item_id, spoil() AS rating FROM ratings"
        )
    with pytest.raises(InputError, match="read-only transaction"):
        load_dataset(database.address("trap"))
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM touched").fetchone() == (0,)


def test_what_is_wrong_is_one_line_without_the_password(
    database: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {
        database.address("rating"): "no table 'rating': did you mean ratings",
        database.address("ratings&schema=shop"): "no table 'ratings'",
        database.address("nobodys"): "holds no ratings",
        database.address("ratings; DROP TABLE ratings"): "no table",
        f"postgresql://ann@127.0.0.1:{database.port}/postgres": "names no table",
        f"postgresql://ann@127.0.0.1:{database.port}/nowhere?table=ratings": "does not exist",
        database.address("ratings&surprise=1"): "surprise",
        database.address().replace(f":{database.port}", ":1"): "refused",
    }
    for spec, said in cases.items():
        with pytest.raises(InputError, match=said) as caught:
            load_dataset(spec)
        assert "\n" not in str(caught.value) and PostgreSQL.PASSWORD not in str(caught.value)
    with pytest.raises(InputError, match="--separator is for files"):
        load_dataset(database.address(), reading=ReadingOptions.of(separator=","))
    monkeypatch.setenv("PGPASSWORD", "other words")
    with pytest.raises(InputError, match=r"permission denied.*GRANT SELECT"):
        load_dataset(database.address(user="bob"))
    with pytest.raises(InputError, match="authentication failed") as refused:
        load_dataset(database.address())
    # Asking again would not help, as it would for one that is away.
    assert not isinstance(refused.value, AwayError)
    with pytest.raises(AwayError, match="refused"):
        load_dataset(database.address().replace(f":{database.port}", ":1"))


def test_a_password_in_a_name_is_refused_and_never_repeated() -> None:
    for spec in (
        "postgresql://ann:hunter2@host/db?table=t",
        "postgres://ann:hunter2@host/db",
        "postgresql://host/db?table=t&password=hunter2",
        "postgresql://host/db?user=ann&sslpassword=hunter2",
        "postgresql://ann:hunt@er2hunter2@host:port/db?table=t",
    ):
        with pytest.raises(InputError, match="PGPASSWORD") as caught:
            load_dataset(spec)
        assert "hunter2" not in "".join(traceback.format_exception_only(caught.value))
        assert "\n" not in str(caught.value)


def test_a_password_file_is_read(database: PostgreSQL, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.delenv("PGPASSWORD")
    path = tmp_path / "pass words"
    path.write_text(f"127.0.0.1:{database.port}:*:ann:{PostgreSQL.PASSWORD}\n")
    path.chmod(0o600)
    assert len(load_dataset(f"{database.address()}&passfile={encoded(str(path))}").ratings) == 3


def _sqlite(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        connection.execute('CREATE TABLE "odd ""name"" x" ("who is", what, how, "when", extra)')
        connection.executemany('INSERT INTO "odd ""name"" x" VALUES (?, ?, ?, ?, 3)', ROWS)
    connection.close()
    return f"sqlite:///{path}?table={encoded(NAME)}"


def _duckdb(path: Path) -> str:
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            'CREATE TABLE "odd ""name"" x" ("who is" text, what text, how double, "when" timestamp)'
        )
        connection.executemany(
            'INSERT INTO "odd ""name"" x" VALUES (?, ?, ?, make_timestamp(?::BIGINT * 1000000))',
            ROWS,
        )
    return f"duckdb:///{path}?table={encoded(NAME)}"


@pytest.mark.parametrize("make", [_sqlite, _duckdb])
def test_a_file_of_a_database_is_as_a_file_of_text(
    make: object, tmp_path: Path, expected: str
) -> None:
    assert callable(make)
    path = tmp_path / "my ratings.db"
    spec = make(path)
    before = path.read_bytes()
    found = load_dataset(spec, reading=COLUMNS)
    assert found.ratings.digest() == expected
    assert found.timestamps is not None and found.timestamps[0] == 1_000_000
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="no table 'other'"):
        load_dataset(f"{spec.split('?')[0]}?table=other")
    with pytest.raises(InputError, match="no such file"):
        load_dataset(f"{spec.split(':')[0]}:////nowhere/x.db?table=t")
    damaged = bytearray(before)
    damaged[4096:] = os.urandom(len(damaged) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(InputError) as caught:
        load_dataset(spec, reading=COLUMNS)
    assert "\n" not in str(caught.value)


def test_a_view_of_sqlite_that_never_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "endless.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE VIEW ratings AS WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t) "
            "SELECT n AS user, n AS item, count(*) AS rating FROM t"
        )
    connection.close()
    monkeypatch.setattr("server.data.databases.SECONDS", 0.5)
    with pytest.raises(InputError, match="longer than"):
        load_dataset(f"sqlite:///{path}?table=ratings")


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path, expected: str) -> None:
    folder = tmp_path / "year [x] *"
    frame = pl.DataFrame(ROWS, schema=["who is", "what", "how", "when"], orient="row")
    for what, part in frame.group_by("how"):
        place = folder / f"how={what[0]}"
        place.mkdir(parents=True)
        part.drop("how").write_parquet(place / "part-0.parquet")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "half.parquet").write_text("broken off")
    assert load_dataset(str(folder), reading=COLUMNS).ratings.digest() == expected
    (folder / "how=1" / "part-1.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="not a parquet"):
        load_dataset(str(folder), reading=COLUMNS)


def test_a_table_says_where_it_is() -> None:
    table = table_of("postgres://ann@h:5/db?sslmode=require&table=r&schema=s")
    assert (table.table, table.schema) == ("r", "s")
    assert table.connection == "postgresql://ann@h:5/db?sslmode=require"
