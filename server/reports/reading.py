"""A tally, read beside the servers that write it; nothing in it is changed."""

import sqlite3
from contextlib import closing
from pathlib import Path

from common.errors import InputError
from common.ranking import Counts
from common.text import one_line
from server.reports.sums import Sums, counts_from_text
from server.reports.tally_file import APPLICATION_ID, FORMAT
from server.reports.tally_tables import MAX_SUMS, Whose, all_sums, sums_now
from server.sql.postgresql import Database
from server.sql.sqlite import SqliteTransactions
from server.sql.statements import SqlError, bounded
from server.sqlite_file import require_plain


def read_tally(path: Path) -> dict[Whose, Sums]:
    """All that was counted so far, as of one moment. Raises InputError."""
    if not path.exists():
        raise InputError(f"tally {path}: no such file: name the --store or --tally of the server")
    try:
        # The other end of a pipe would be waited for.
        if path.exists() and not path.is_file():
            raise ValueError("not a file")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
            database.execute("BEGIN")
            return _read(database)
    except (sqlite3.Error, SqlError, OSError, ValueError, TypeError) as error:
        raise InputError(f"tally {path}: cannot be read ({one_line(str(error))})") from error


def read_shared_tally(database: Database) -> dict[Whose, Sums]:
    """All that servers counted together so far, as of one moment. Raises InputError."""
    try:
        with database.transaction() as sql:
            sql.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            asked = f"SELECT digest, {bounded('measured')} FROM measured LIMIT {MAX_SUMS}"
            texts = dict(sql.execute(asked).fetchall())
            found = {}
            for whose in all_sums(sql):
                sums, measured = sums_now(sql, whose), texts.get(whose.measured, "")
                if sums is not None and isinstance(measured, str):
                    found[whose._replace(measured=measured)] = sums
            return found
    except (SqlError, ValueError, TypeError) as error:
        raise InputError(
            f"tally {database.shown}: cannot be read ({one_line(str(error))})"
        ) from error


def read_counts(path: Path, version: str, preset: str) -> tuple[int, Counts]:
    """Reports and counts of a version and preset, if they were measured in one way only.

    Zeros without watched items when there are none. Raises InputError.
    """
    found = [
        sums
        for whose, sums in read_tally(path).items()
        if (whose.version, whose.preset) == (version, preset)
    ]
    if len(found) > 1:
        raise InputError(f"tally {path}: version {version[:12]} was measured in several ways")
    return (found[0].reports, found[0].counts) if found else (0, Counts.none(0))


def _read(database: sqlite3.Connection) -> dict[Whose, Sums]:
    (identity,) = database.execute("PRAGMA application_id").fetchone()
    (form,) = database.execute("PRAGMA user_version").fetchone()
    if identity != APPLICATION_ID or form not in (1, FORMAT):
        raise ValueError("not a tally of this program")
    require_plain(database)
    sql = SqliteTransactions(database, None)
    found: dict[Whose, Sums] = {}
    for whose in all_sums(sql):
        if form == 1:
            asked = (
                "SELECT reports, counts FROM totals WHERE (version, preset, measured) = (?, ?, ?)"
            )
            reports, text = sql.execute(asked, whose).fetchone()
            found[whose] = Sums(int(reports), counts_from_text(text))
        elif (sums := sums_now(sql, whose)) is not None:
            found[whose] = sums
    return found
