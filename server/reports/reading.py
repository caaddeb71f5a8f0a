"""A tally file, read beside the server that writes it; nothing in it is changed."""

import sqlite3
from contextlib import closing
from pathlib import Path

from common.errors import InputError
from common.ranking import Counts
from common.text import one_line
from server.reports.sums import Sums, counts_from_text
from server.reports.tally_file import APPLICATION_ID, FORMAT, Whose, sums_now
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
    except (sqlite3.Error, OSError, ValueError, TypeError) as error:
        raise InputError(f"tally {path}: cannot be read ({one_line(str(error))})") from error


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
    rows = database.execute("SELECT version, preset, measured, reports, counts FROM totals")
    totals = {
        _whose(*whose): Sums(int(reports), counts_from_text(text))
        for *whose, reports, text in rows.fetchall()
    }
    if form == 1:
        return totals
    return {whose: sums_now(database, whose) or total for whose, total in totals.items()}


def _whose(version: object, preset: object, measured: object) -> Whose:
    """Raises ValueError for names that are no line of text."""
    texts = [each for each in (version, preset, measured) if isinstance(each, str)]
    if len(texts) < 3 or not all(each.isprintable() for each in texts):
        raise ValueError("a version or preset whose name is none")
    return Whose(*texts)
