"""Where a tally's tables are: an SQLite file in WAL mode, whole after any crash; or PostgreSQL.

Every commit waits for the disk (in SQLite synchronous=FULL): a device throws its report away when
it is told that it was counted, and with less a power failure could take back what was told.
"""

import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from common.errors import InputError
from common.text import one_line
from server.reports.sums import Sums, counts_from_text
from server.reports.tally_tables import TallyTables
from server.sql.postgresql import Database, PostgresTransactions
from server.sql.sqlite import SqliteTransactions
from server.sql.statements import SqlError
from server.sqlite_file import Kind, form_of, in_one, open_sqlite

# Spells "Vict".
APPLICATION_ID: Final = 0x56696374
FORMAT: Final = 2
_WHOSE: Final = "version TEXT, preset TEXT, measured TEXT"
# Format 1 had these alone.
_TOTALS: Final = (
    f"CREATE TABLE totals ({_WHOSE}, reports INTEGER NOT NULL, "
    "counts TEXT NOT NULL, PRIMARY KEY (version, preset, measured)) WITHOUT ROWID",
    "CREATE TABLE keys (key TEXT PRIMARY KEY, came INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX keys_by_age ON keys (came)",
)
_ADDED: Final = (
    f"CREATE TABLE shards ({_WHOSE}, shard INTEGER, reports INTEGER NOT NULL, "
    "counts TEXT NOT NULL, PRIMARY KEY (version, preset, measured, shard)) WITHOUT ROWID",
    f"CREATE TABLE randomized ({_WHOSE}, epsilon REAL, answers TEXT NOT NULL, "
    "PRIMARY KEY (version, preset, measured, epsilon)) WITHOUT ROWID",
    f"CREATE TABLE published ({_WHOSE}, sums TEXT NOT NULL, "
    "PRIMARY KEY (version, preset, measured)) WITHOUT ROWID",
    "CREATE TABLE spent (issued INTEGER, nonce INTEGER, stale INTEGER, "
    "PRIMARY KEY (issued, nonce, stale)) WITHOUT ROWID",
    "CREATE TABLE state (now INTEGER NOT NULL, keys INTEGER NOT NULL, spent INTEGER NOT NULL, "
    "oldest INTEGER NOT NULL)",
    "INSERT INTO state SELECT coalesce(max(came), 0), count(*), 0, 0 FROM keys",
)
_KIND: Final = Kind("a tally", APPLICATION_ID, FORMAT, (*_TOTALS, *_ADDED), older=(1,))
# The servers of a database count one commit after another.
_LOCK: Final = "SELECT now FROM state FOR UPDATE"


def tally_file(path: Path | None) -> TallyTables:
    """The tables of a file, which is made where there is none; None keeps all in memory.

    Raises InputError for a file that is damaged, or is not a tally. A link is followed here, and
    not by SQLite: what is made is for its owner alone.
    """
    path = None if path is None else path.resolve()
    name = "in memory" if path is None else str(path)
    try:
        # It says who reported what.
        database = open_sqlite(path, _KIND, durable=True)
        try:
            if form_of(database) == 1:
                _require_first_form(database)
                in_one(database, *_ADDED, f"PRAGMA user_version = {FORMAT}")
            tables = TallyTables(SqliteTransactions(database, path), name, "--tally")
            tables.check()
        except BaseException:
            database.close()
            raise
    except (sqlite3.Error, SqlError, OSError, ValueError, TypeError) as error:
        raise InputError(
            f"tally {name}: cannot be used ({one_line(str(error))}); move it away, or "
            "choose another --tally"
        ) from error
    return tables


def tally_database(database: Database) -> TallyTables:
    """The tables of servers that share a database. Raises InputError for what is no tally."""
    tables = TallyTables(PostgresTransactions(database, _LOCK), database.shown, "--database")
    try:
        tables.begin()
        tables.check()
        tables.commit()
    except (SqlError, ValueError, TypeError) as error:
        raise InputError(f"tally {database.shown}: cannot be used ({error})") from error
    finally:
        tables.roll_back()
    return tables


def shared_measuring(database: Database, measured: Mapping[str, str]) -> dict[str, str]:
    """By preset, the digest under which what it measures stands in a database. Raises SqlError."""
    digests = {name: _digest(text) for name, text in measured.items()}
    with database.transaction() as sql:
        for name in sorted(measured):
            values = (digests[name], measured[name])
            sql.execute("INSERT INTO measured VALUES (?, ?) ON CONFLICT DO NOTHING", values)
    return digests


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _require_first_form(database: sqlite3.Connection) -> None:
    """Raises ValueError, TypeError."""
    for reports, counts in database.execute("SELECT reports, counts FROM totals"):
        Sums(reports, counts_from_text(counts))
