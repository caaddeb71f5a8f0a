"""Who was shown whom today, in an SQLite file: kept across restarts and kills.

    shown   day (UTC, since 1970), user, neighbor

A thread commits, many rows at a time. A commit does not wait for the disk (synchronous=NORMAL):
a killed process loses nothing, a power failure the last moments. Rows of other days are deleted.
"""

import logging
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, NamedTuple, final

from common.errors import InputError
from common.files import make_private

FILE_NAME: Final = "budgets.sqlite"
# "Vicb", in the header of every such file; other SQLite files have another number there.
APPLICATION_ID: Final = 0x56696362
FORMAT: Final = 1
# Rows that a full disk has not taken; of more, the oldest are forgotten at a restart.
MAX_UNSAVED: Final = 1 << 20
_BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = (
    "CREATE TABLE shown (day INTEGER, user INTEGER, neighbor INTEGER, "
    "PRIMARY KEY (day, user, neighbor)) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)

_log = logging.getLogger(__name__)


class Shown(NamedTuple):
    """A row of the file."""

    day: int
    user: int
    neighbor: int


_Order = tuple[Sequence[Shown], "Future[None]"]


@final
class BudgetFile:
    """One file and the thread that writes it, until `close`.

    Raises InputError for a file that is damaged, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._database = _opened(path)
        except (sqlite3.Error, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"budgets {path}: cannot be used ({reason}); move it away") from error
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._unsaved: list[Shown] = []
        self._thread = Thread(target=self._write_always, name="budgets", daemon=True)
        self._thread.start()

    def rows(self, day: int) -> list[Shown]:
        """Of one day; to be asked before anything is added."""
        asked = "SELECT day, user, neighbor FROM shown WHERE day = ? ORDER BY user"
        return [Shown(*map(int, row)) for row in self._database.execute(asked, (day,))]

    def add(self, rows: Sequence[Shown]) -> "Future[None]":
        """Done when rows of today are in the file. What a full disk does not take now is written
        with the next, and the log says so; nobody has to wait for that.
        """
        done: Future[None] = Future()
        # Whoever waits and leaves cannot cancel it: the thread goes on for everybody else.
        done.set_running_or_notify_cancel()
        self._orders.put((rows, done))
        return done

    def close(self) -> None:
        """Write what is left; nothing may be added afterwards."""
        self._orders.put(None)
        self._thread.join()
        self._database.close()

    def _write_always(self) -> None:
        while (order := self._orders.get()) is not None:
            batch, over = [order], False
            with suppress(Empty):
                while not over:
                    following = self._orders.get_nowait()
                    if following is None:
                        over = True
                    else:
                        batch.append(following)
            self._write([*self._unsaved, *(row for rows, _ in batch for row in rows)])
            for _, done in batch:
                done.set_result(None)
            if over:
                return

    def _write(self, rows: list[Shown]) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR IGNORE INTO shown VALUES (?, ?, ?)", rows)
            today = max(row.day for row in rows)
            self._database.execute("DELETE FROM shown WHERE day < ?", (today,))
            self._database.execute("COMMIT")
            self._unsaved = []
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
            _log.error("budgets %s: %s: a restart would forget the last of them", self._path, error)
            self._unsaved = rows[-MAX_UNSAVED:]


def _opened(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error, OSError, ValueError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # It says who is like whom: for the owner alone, and never through a link.
    make_private(path)
    if path.is_symlink():
        raise ValueError("it is a link")
    database = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        (identity,) = database.execute("PRAGMA application_id").fetchone()
        (form,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        new = tables == identity == form == 0
        if not new and (identity, form) != (APPLICATION_ID, FORMAT):
            raise ValueError("it holds something else")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if new:
            database.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                database.execute(statement)
            database.execute("COMMIT")
        (checked,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if checked != "ok":
            raise ValueError(f"damaged: {checked}")
    except BaseException:
        database.close()
        raise
    return database
