"""Ratings in a database: one table of PostgreSQL, SQLite or DuckDB, read and never written.

    postgresql://USER@HOST:PORT/DATABASE?table=ratings      also schema=…, and libpq's own words
    sqlite:///PATH?table=ratings
    duckdb:///PATH?table=ratings

A name of a data set stands in process lists, results and logs, so that it may hold no password:
libpq finds it in PGPASSWORD, ~/.pgpass or the file that passfile=… names. A view does what a query
would.
"""

import io
import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import polars as pl

from common.errors import InputError
from common.names import nearest
from common.text import one_line
from server.data.columns import by_names
from server.data.limits import most_rows
from server.data.parquet import NOTES, SECONDS, child, read_in_child
from server.data.reading import first_line
from server.data.reading_options import ReadingOptions, plain_path
from server.data.rows import RatingRows, checked
from server.sql.address import (
    CONNECT_SECONDS,
    conninfo,
    hidden_secrets,
    library,
    require_no_secret,
    said,
)

SCHEMES: Final = ("postgresql", "postgres", "sqlite", "duckdb")
SQLITE: Final = "sqlite"
DUCKDB: Final = "duckdb"
OF_FILES: Final = ("separator", "skip_lines", "header", "encoding", "member", "fields")
STATEMENT_SECONDS: Final = 600
MAX_CSV_BYTES: Final = 16 << 30
FETCHED: Final = 50_000
# What the steps of SQLite's machine are counted in before the clock is looked at.
STEPS: Final = 100_000


class AwayError(InputError):
    """A database that cannot be reached now, and perhaps can be later."""


@dataclass(frozen=True)
class Table:
    """A table of a database, as its name says.

    shown  the name without what only the connection needs
    """

    scheme: str
    shown: str
    connection: str
    table: str
    schema: str | None


def is_database(spec: str) -> bool:
    return spec.split("://", maxsplit=1)[0].lower() in SCHEMES and "://" in spec


def without_secrets(spec: str) -> str:
    """What may be shown of a name of a data set, whatever is in it.

    >>> without_secrets("postgresql://ann:pw@host/db?table=t&password=x")
    'postgresql://ann:***@host/db?table=t&password=***'
    """
    return hidden_secrets(spec) if is_database(spec) else spec


def table_of(spec: str) -> Table:
    """Raises InputError for a name that has a password in it, or names no table."""
    shown = without_secrets(spec)
    if is_database(spec):
        require_no_secret(spec)
    try:
        parts = urlsplit(spec)
        words = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise InputError(f"{shown}: is no address of a database ({error})") from None
    own = {name: value for name, value in words if name in ("table", "schema")}
    if not own.get("table"):
        raise InputError(f"{shown}: names no table: add ?table=ratings, a table or a view")
    rest = [(name, value) for name, value in words if name not in own]
    scheme = "postgresql" if parts.scheme.lower().startswith("postgres") else parts.scheme.lower()
    if scheme == "postgresql":
        query = urlencode(rest, quote_via=quote)
        connection = f"postgresql://{parts.netloc}{parts.path}{'?' if query else ''}{query}"
    else:
        if parts.netloc or rest:
            raise InputError(f"{shown}: write {scheme}:///PATH?table=NAME, with three slashes")
        # One slash is the address's: sqlite:///here.db is beside us, sqlite:////there.db is not.
        connection = str(plain_path(unquote(parts.path[1:])))
        if not Path(connection).is_file():
            beside = f"/{connection}"
            hint = f": {scheme}:///{beside} has four slashes" if Path(beside).is_file() else ""
            raise InputError(f"{shown}: no such file {connection}{hint}")
    return Table(scheme, shown, connection, own["table"], own.get("schema"))


def read_table(spec: str, options: ReadingOptions) -> RatingRows:
    """The rows of a table. Raises InputError, AwayError where asking again may help."""
    told = [name.replace("_", "-") for name in OF_FILES if getattr(options, name) is not None]
    table = table_of(spec)
    if told:
        raise InputError(f"{table.shown}: --{told[0]} is for files: leave it out")
    if table.scheme == "postgresql":
        raw, notes = _of_postgresql(table, options)
    elif table.scheme == SQLITE:
        raw, notes = _of_sqlite(table, options)
    else:
        # Its reader is C++ on a stranger's file: in a process of its own.
        raw = pl.read_ipc(
            io.BytesIO(
                read_in_child(
                    "server.data.databases",
                    b"",
                    table.shown,
                    options.to_json(),
                    json.dumps([table.connection, table.table, table.schema]),
                    kind="a DuckDB file",
                )
            )
        )
        notes = tuple(json.loads(raw[NOTES][0])) if raw.height else ()
        raw = raw.drop(NOTES)
    return checked(raw, table.shown, unit="row", options=options, notes=notes)


def _of_postgresql(table: Table, options: ReadingOptions) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """In one read-only transaction, so that the rows are of one moment."""
    psycopg = library("psycopg", table.shown)
    try:
        with psycopg.connect(
            conninfo(table.connection, table.shown, {}), autocommit=False
        ) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            return _copied(connection, table, options)
    except psycopg.OperationalError as error:
        # Of class 28 are names and passwords that are not let in, 3D databases that are not there;
        # before a session there is no class, and what is wrong is in words.
        refused = (error.sqlstate or "")[:2] in ("28", "3D") or any(
            word in str(error)
            for word in ("authentication failed", "does not exist", "no password")
        )
        kind = InputError if refused else AwayError
        raise kind(f"{table.shown}: {said(error)}") from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise InputError(f"{table.shown}: {said(error)}: let it read with GRANT SELECT") from None
    except psycopg.Error as error:
        raise InputError(f"{table.shown}: {said(error)}") from None


def _copied(
    connection: Any, table: Table, options: ReadingOptions
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    sql = library("psycopg.sql", table.shown)
    errors = library("psycopg.errors", table.shown)
    named = [name for name in (table.schema, table.table) if name is not None]
    whole = sql.Identifier(*named)
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_SECONDS * 1000}")
        try:
            cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(whole))
        except errors.UndefinedTable:
            connection.rollback()
            cursor.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema NOT IN "
                "('pg_catalog', 'information_schema') ORDER BY 1 LIMIT 1000"
            )
            raise _no_table(table, [row[0] for row in cursor.fetchall()]) from None
        described = cursor.description or []
        columns, notes = _columns([column.name for column in described], table, options)
        types = {column.name: column.type_display for column in described}
        chosen = [
            sql.SQL(_AS[role](types[name])).format(sql.Identifier(name))
            for role, name in columns.items()
        ]
        query = sql.SQL("COPY (SELECT {} FROM {} LIMIT {}) TO STDOUT (FORMAT csv)").format(
            sql.SQL(", ").join(chosen), whole, sql.Literal(most_rows() + 1)
        )
        parts, size = [], 0
        with cursor.copy(query) as copy:
            for part in copy:
                parts.append(bytes(part))
                size += len(part)
                if size > MAX_CSV_BYTES:
                    raise InputError(f"{table.shown}: larger than {MAX_CSV_BYTES >> 30} GiB")
    raw = pl.read_csv(
        io.BytesIO(b"".join(parts)) if size else io.BytesIO(b""),
        has_header=False,
        schema=dict.fromkeys(columns, pl.String),
        raise_if_empty=False,
    )
    return _numbered(raw), notes


def _seconds(kind: str) -> str:
    if kind.startswith(("timestamp", "date")):
        return "floor(extract(epoch from {}))::bigint"
    return "{}::text"


# How PostgreSQL is asked for a role's column of some type.
_AS: Final = {
    "user": lambda _kind: "{}::text",
    "item": lambda _kind: "{}::text",
    "rating": lambda kind: "{}::int" if kind == "bool" else "{}::text",
    "timestamp": _seconds,
}


def _columns(
    names: Sequence[str], table: Table, options: ReadingOptions
) -> tuple[dict[str, str], tuple[str, ...]]:
    found = by_names(names, table.shown, options)
    return {role: names[at] for role, at in found.positions.items()}, found.notes


def _no_table(table: Table, there: Sequence[str]) -> InputError:
    near = nearest(table.table, there) if there else None
    hint = f": did you mean {near}?" if near else f": there are {', '.join(there[:6]) or 'none'}"
    return InputError(f"{table.shown}: no table {table.table[:60]!r}{one_line(hint)}")


def _numbered(raw: pl.DataFrame) -> pl.DataFrame:
    return raw.select(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"), pl.all())


def _quoted(*names: str | None) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names if name is not None)


def _of_sqlite(table: Table, options: ReadingOptions) -> tuple[pl.DataFrame, tuple[str, ...]]:
    ends = time.monotonic() + SECONDS
    try:
        place = f"file:{quote(str(Path(table.connection).absolute()))}?mode=ro"
        connection = sqlite3.connect(place, uri=True, timeout=CONNECT_SECONDS)
        try:
            # A stranger's view may run for ever, and call what the program has.
            connection.set_progress_handler(lambda: time.monotonic() > ends, STEPS)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            whole = _quoted(table.schema, table.table)
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
            ).fetchall()
            there = [name for (name,) in tables]
            if table.schema is None and table.table not in there:
                raise _no_table(table, there)
            cursor = connection.execute(f"SELECT * FROM {whole} LIMIT 0")
            columns, notes = _columns([each[0] for each in cursor.description], table, options)
            chosen = ", ".join(_sqlite_role(role, name) for role, name in columns.items())
            cursor = connection.execute(f"SELECT {chosen} FROM {whole} LIMIT {most_rows() + 1}")
            schema = dict.fromkeys(columns, pl.String)
            parts = [pl.DataFrame(schema=schema)]
            while rows := cursor.fetchmany(FETCHED):
                parts.append(pl.DataFrame(rows, schema=schema, orient="row"))
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        busy = "locked" in str(error) or "busy" in str(error)
        text = f"{table.shown}: {one_line(str(error))}"
        if "interrupted" in str(error):
            text = f"{table.shown}: takes longer than {SECONDS:g} s to read"
        raise (AwayError if busy else InputError)(text) from None
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise InputError(f"{table.shown}: cannot be read ({one_line(str(error))})") from None
    return _numbered(pl.concat(parts)), notes


def _sqlite_role(role: str, name: str) -> str:
    # Text of a number with a fraction would be 7.0 where 7 is the id: numbers come as they are.
    return f"CAST({_quoted(name)} AS TEXT) AS {role}"


def _of_duckdb(_data: bytes, shown: str) -> pl.DataFrame:
    """In this process, which may not survive it. Arguments are of read_table."""
    import sys  # noqa: PLC0415 - of the child alone

    options = ReadingOptions.from_json(sys.argv[2])
    connection_path, name, schema = json.loads(sys.argv[3])
    table = Table(DUCKDB, shown, connection_path, name, schema)
    duckdb = library("duckdb", shown)
    try:
        config = {"enable_external_access": "false", "threads": "1"}
        with duckdb.connect(connection_path, read_only=True, config=config) as connection:
            there = connection.execute(
                "SELECT table_name FROM information_schema.tables ORDER BY 1"
            ).fetchall()
            if schema is None and name not in [each[0] for each in there]:
                raise _no_table(table, [each[0] for each in there])
            whole = _quoted(schema, name)
            described = connection.execute(f"SELECT * FROM {whole} LIMIT 0").description
            types = {each[0]: str(each[1]) for each in described}
            columns, notes = _columns(list(types), table, options)
            chosen = ", ".join(
                f"{_duckdb_role(role, types[column], _quoted(column))} AS {_quoted(role)}"
                for role, column in columns.items()
            )
            found = connection.execute(f"SELECT {chosen} FROM {whole} LIMIT {most_rows() + 1}")
            rows: dict[str, list[pl.Series]] = {role: [] for role in columns}
            while batch := found.fetchmany(FETCHED):
                for role, values in zip(columns, zip(*batch, strict=True), strict=True):
                    rows[role].append(pl.Series(role, values, dtype=pl.String))
    except duckdb.IOException as error:
        busy = "lock" in str(error).lower()
        raise (AwayError if busy else InputError)(f"{shown}: {first_line(error)}") from None
    except duckdb.Error as error:
        raise InputError(f"{shown}: {first_line(error)}") from None
    raw = pl.DataFrame(
        {role: pl.concat(parts) if parts else pl.Series(role, [], dtype=pl.String)
         for role, parts in rows.items()}
    )  # fmt: skip
    return _numbered(raw).with_columns(pl.lit(json.dumps(notes)).alias(NOTES))


def _duckdb_role(role: str, kind: str, column: str) -> str:
    if role == "timestamp" and kind.startswith(("TIMESTAMP", "DATE", "DateTime", "Date")):
        return f"CAST(floor(epoch({column})) AS BIGINT)::VARCHAR"
    if role == "rating" and kind.upper().startswith("BOOL"):
        return f"CAST({column} AS INTEGER)::VARCHAR"
    return f"CAST({column} AS VARCHAR)"


if __name__ == "__main__":
    raise SystemExit(child(_of_duckdb))
