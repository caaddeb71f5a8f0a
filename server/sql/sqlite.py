"""Transactions in an SQLite file, or in memory; a file that was taken away is noticed."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import final

from server.sql.statements import LostError, SqlError


@final
class SqliteTransactions:
    """One connection in autocommit (server.sqlite_file); used by one thread at a time.

    path  of its file; None keeps all in memory
    """

    def __init__(self, database: sqlite3.Connection, path: Path | None) -> None:
        self.database = database
        self._path = path
        self._files: dict[Path, tuple[int, int]] = {}
        self.look()

    def begin(self) -> None:
        self.look()
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.execute("COMMIT")
        # Nobody is told that something was kept in a file that nobody will ever read.
        self.look()

    def roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")

    @contextmanager
    def part(self) -> Iterator[None]:
        self.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            # A disk that is full has rolled everything back already.
            if self.database.in_transaction:
                self.execute("ROLLBACK TO part")
                self.execute("RELEASE part")
            raise
        self.execute("RELEASE part")

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self.database.execute(statement, values)
        except (sqlite3.OperationalError, sqlite3.InternalError) as error:
            raise SqlError(str(error)) from error
        except sqlite3.DatabaseError as error:
            if type(error) is sqlite3.DatabaseError:
                raise SqlError(str(error)) from error
            raise ValueError(str(error)) from error

    def close(self) -> None:
        """Nothing is lost without it: it folds the write-ahead log into the file."""
        self.database.close()

    def look(self) -> None:
        """Raises LostError when the file, or its write-ahead log, is not the one before."""
        if self._path is None:
            return
        for path in (self._path, self._path.with_name(f"{self._path.name}-wal")):
            try:
                status = path.stat()
            except OSError:
                if path in self._files:
                    raise LostError(f"{path} is gone") from None
                continue
            found = status.st_dev, status.st_ino
            if self._files.setdefault(path, found) != found:
                raise LostError(f"{path} is another file than before")
