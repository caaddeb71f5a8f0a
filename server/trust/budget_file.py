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
from common.text import one_line
from server.sqlite_file import Kind, open_sqlite

FILE_NAME: Final = "budgets.sqlite"
# Rows that a full disk has not taken; of more, the oldest are forgotten at a restart.
MAX_UNSAVED: Final = 1 << 20
# The number spells "Vicb".
_KIND: Final = Kind(
    "a file of budgets",
    identity=0x56696362,
    form=1,
    schema=(
        "CREATE TABLE shown (day INTEGER, user INTEGER, neighbor INTEGER, "
        "PRIMARY KEY (day, user, neighbor)) WITHOUT ROWID",
    ),
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
            # It says who is like whom: never through a link.
            if path.is_symlink():
                raise ValueError("it is a link")
            self._database = open_sqlite(path, _KIND, durable=False)
        except (sqlite3.Error, OSError, ValueError) as error:
            reason = one_line(str(error))
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
