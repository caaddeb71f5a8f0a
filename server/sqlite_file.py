"""SQLite files of a server: for their owner alone, and told from others before they are changed."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.files import make_folder, make_private

_BUSY_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Kind:
    """What a file has to be.

    name      in words, as "a tally"
    identity  application_id in its header; other SQLite files have another number there
    form      user_version of those that are made now
    schema    statements that make one, these two numbers apart
    older     forms that whoever opens it takes over
    """

    name: str
    identity: int
    form: int
    schema: tuple[str, ...]
    older: tuple[int, ...] = ()


def open_sqlite(path: Path | None, kind: Kind, *, durable: bool) -> sqlite3.Connection:
    """A connection in autocommit, for one thread at a time; None as a path keeps all in memory.

    durable  a commit waits for the disk; without, a power failure takes back the last moments, and
             a killed process loses nothing either way

    Raises sqlite3.Error, OSError; ValueError for a file that is damaged or something else, which
    stays as it is.
    """
    if path is not None:
        make_folder(path.parent)
        if not path.exists():
            make_private(path)
    database = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if new := _is_new(database, kind):
            database.execute("PRAGMA journal_mode = WAL")
            numbers = (
                f"PRAGMA application_id = {kind.identity}",
                f"PRAGMA user_version = {kind.form}",
            )
            in_one(database, *kind.schema, *numbers)
        (checked,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if checked != "ok":
            raise ValueError(f"damaged: {checked}")
        if not new:
            database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        if path is not None:
            _tighten(path)
    except BaseException:
        database.close()
        raise
    return database


def form_of(database: sqlite3.Connection) -> int:
    """A file's user_version."""
    (form,) = database.execute("PRAGMA user_version").fetchone()
    return int(form)


def in_one(database: sqlite3.Connection, *statements: str) -> None:
    """In one transaction."""
    database.execute("BEGIN IMMEDIATE")
    for statement in statements:
        database.execute(statement)
    database.execute("COMMIT")


def _is_new(database: sqlite3.Connection, kind: Kind) -> bool:
    """Raises ValueError for a file of another kind or form."""
    form = form_of(database)
    (identity,) = database.execute("PRAGMA application_id").fetchone()
    (tables,) = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    require_plain(database)
    if tables == identity == form == 0:
        return True
    if identity != kind.identity:
        raise ValueError(f"an SQLite file, but not {kind.name}")
    if form not in (kind.form, *kind.older):
        raise ValueError(f"{kind.name} of format {form}, not {kind.form}")
    return False


def require_plain(database: sqlite3.Connection) -> None:
    """Raises ValueError for a file that would do more than hold tables when it is read or written.

    A view may have no end, and a trigger deletes what was counted.
    """
    query = (
        "SELECT COUNT(*) FROM sqlite_master "
        "WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'"
    )
    if database.execute(query).fetchone() != (0,):
        raise ValueError("it has views or triggers, which no file of this program has")


def _tighten(path: Path) -> None:
    """The file, and those that SQLite puts beside it."""
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            make_private(beside)
