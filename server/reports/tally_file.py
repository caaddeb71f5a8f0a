"""The tally on disk: an SQLite file in WAL mode, whole after any crash.

    totals      per version, preset and what was measured: reports counted, and their sum
    shards      the same for each shard
    randomized  the same for each ε: how often each question got each answer
    published   the same as it stood at the last hundredth report: what is told
    keys        of the reports counted, with the second in which each came
    spent       receipts that were counted, by when they were issued
    state       one row: the latest second, how many keys and receipts there are, and the oldest
                second of receipts that are still taken

A report's key, receipts and counts are committed together, or none of them is. Every commit waits
for the disk (synchronous=FULL): a device throws its report away when it is told that it was
counted, and with less a power failure could take back what was told.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from common.errors import InputError
from common.ranking import Counts
from common.text import one_line
from server.reports.report import Receipt
from server.reports.sums import (
    Sums,
    answers_from_text,
    counts_from_text,
    counts_text,
    sums_from_text,
    sums_text,
)
from server.sqlite_file import Kind, form_of, in_one, open_sqlite

# Spells "Vict".
APPLICATION_ID: Final = 0x56696374
FORMAT: Final = 2
# What is deleted with a commit at most, beyond twice what was added.
_PIECE: Final = 64
_WHOSE: Final = "version TEXT, preset TEXT, measured TEXT"
_IS: Final = "(version, preset, measured) = (?, ?, ?)"
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


class TallyLostError(Exception):
    """The file is not there any more, or is another one: what is written would be gone."""


class Whose(NamedTuple):
    """What a sum is of."""

    version: str
    preset: str
    measured: str


class State(NamedTuple):
    """The one row of `state`."""

    now: int
    keys: int
    spent: int
    oldest: int


@final
class TallyFile:
    """One connection; used by one thread at a time. None as a path keeps all in memory."""

    def __init__(self, path: Path | None) -> None:
        """Raises InputError for a file that is damaged, or is not a tally.

        A link is followed here, and not by SQLite: what is made is for its owner alone.
        """
        path = None if path is None else path.resolve()
        self._path = path
        self._name = "in memory" if path is None else str(path)
        self._files: dict[Path, tuple[int, int]] = {}
        self._keys_added = self._spent_added = 0
        try:
            # It says who reported what.
            self._database = open_sqlite(path, _KIND, durable=True)
            try:
                self._check()
                if form_of(self._database) == 1:
                    in_one(self._database, *_ADDED, f"PRAGMA user_version = {FORMAT}")
                    self._check()
                self._look()
            except BaseException:
                self._database.close()
                raise
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise InputError(
                f"tally {self._name}: cannot be used ({one_line(str(error))}); move it away, or "
                "choose another --tally"
            ) from error

    def __str__(self) -> str:
        return f"tally {self._name}"

    def begin(self) -> None:
        """Raises TallyLostError, sqlite3.Error."""
        self._look()
        self._database.execute("BEGIN IMMEDIATE")
        self._keys_added = self._spent_added = 0

    def commit(self) -> None:
        """Raises as begin()."""
        self._database.execute("COMMIT")
        # Nobody is told that a report was counted in a file that nobody will ever read.
        self._look()

    def roll_back(self) -> None:
        """Never raises: what cannot be rolled back now is at the next transaction."""
        with suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part of a transaction: what raises in it has changed nothing."""
        added = self._keys_added, self._spent_added
        self._database.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self._keys_added, self._spent_added = added
            # A disk that is full has rolled everything back already.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK TO part")
                self._database.execute("RELEASE part")
            raise
        self._database.execute("RELEASE part")

    def state(self) -> State:
        return State(*self._one("SELECT now, keys, spent, oldest FROM state"))

    def remember(self, key: str, came: int) -> bool:
        """Whether a key is new."""
        new = "INSERT OR IGNORE INTO keys VALUES (?, ?)"
        added = self._database.execute(new, (key, came)).rowcount == 1
        self._keys_added += added
        return added

    def spend(self, receipts: Iterable[Receipt], *, stale: bool) -> bool:
        """Whether none of them had been spent; as one of a stale answer it may have been apart."""
        new = "INSERT OR IGNORE INTO spent VALUES (?, ?, ?)"
        for receipt in receipts:
            values = (receipt.issued, receipt.nonce, stale)
            if self._database.execute(new, values).rowcount != 1:
                return False
            self._spent_added += 1
        return True

    def forget(self, *, now: int, before: int, most_keys: int, most_spent: int) -> None:
        """Note the time and what was added, and delete a bounded piece of what may be forgotten.

        Keys that came before a second, and the oldest of too many, and receipts likewise. Receipts
        older than what was forgotten are not taken any more: none is counted twice.
        """
        if not (self._keys_added or self._spent_added):
            return
        was = self.state()
        keys, spent = was.keys + self._keys_added, was.spent + self._spent_added
        oldest = max(was.oldest, before)
        if spent > most_spent:
            last = min(_PIECE, spent - most_spent) - 1
            (issued,) = self._one("SELECT issued FROM spent LIMIT 1 OFFSET ?", (last,))
            oldest = max(oldest, issued + 1)
        gone = self._database.execute(
            "DELETE FROM spent WHERE (issued, nonce, stale) IN (SELECT issued, nonce, stale "
            "FROM spent WHERE issued < ? ORDER BY issued LIMIT ?)",
            (oldest, _PIECE + 2 * self._spent_added),
        )
        spent -= gone.rowcount
        piece = _PIECE + 2 * self._keys_added
        old_keys = (
            "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE came < ? "
            "ORDER BY came LIMIT ?)"
        )
        keys -= self._database.execute(old_keys, (before, piece)).rowcount
        if keys > most_keys:
            many = (1 << 62, min(piece, keys - most_keys))
            keys -= self._database.execute(old_keys, many).rowcount
        self._database.execute(
            "UPDATE state SET now = max(now, ?), keys = ?, spent = ?, oldest = ?",
            (now, keys, spent, oldest),
        )

    def total(self, whose: Whose) -> tuple[int, Counts] | None:
        found = self._one(f"SELECT reports, counts FROM totals WHERE {_IS}", whose)
        return None if found is None else (int(found[0]), counts_from_text(found[1]))

    def write_total(self, whose: Whose, reports: int, counts: Counts) -> None:
        values = (*whose, reports, counts_text(counts))
        self._database.execute("INSERT OR REPLACE INTO totals VALUES (?, ?, ?, ?, ?)", values)

    def shard(self, whose: Whose, shard: int) -> tuple[int, Counts] | None:
        query = f"SELECT reports, counts FROM shards WHERE {_IS} AND shard = ?"
        found = self._one(query, (*whose, shard))
        return None if found is None else (int(found[0]), counts_from_text(found[1]))

    def write_shard(self, whose: Whose, shard: int, reports: int, counts: Counts) -> None:
        values = (*whose, shard, reports, counts_text(counts))
        self._database.execute("INSERT OR REPLACE INTO shards VALUES (?, ?, ?, ?, ?, ?)", values)

    def randomized(self, whose: Whose, epsilon: float) -> list[int] | None:
        query = f"SELECT answers FROM randomized WHERE {_IS} AND epsilon = ?"
        found = self._one(query, (*whose, epsilon))
        return None if found is None else list(answers_from_text(found[0]))

    def write_randomized(self, whose: Whose, epsilon: float, answers: list[int]) -> None:
        values = (*whose, epsilon, json.dumps(answers))
        self._database.execute("INSERT OR REPLACE INTO randomized VALUES (?, ?, ?, ?, ?)", values)

    def sums(self, whose: Whose) -> Sums | None:
        """All that was counted so far, shards and randomized answers too."""
        return sums_now(self._database, whose)

    def published(self, whose: Whose) -> Sums | None:
        found = self._one(f"SELECT sums FROM published WHERE {_IS}", whose)
        return None if found is None else sums_from_text(found[0])

    def publish(self, whose: Whose, sums: Sums) -> None:
        values = (*whose, sums_text(sums))
        self._database.execute("INSERT OR REPLACE INTO published VALUES (?, ?, ?, ?)", values)

    def all_published(self) -> dict[Whose, Sums]:
        rows = self._database.execute("SELECT version, preset, measured, sums FROM published")
        return {Whose(*whose): sums_from_text(text) for *whose, text in rows}

    def close(self) -> None:
        """Nothing is lost without it: it folds the write-ahead log into the file."""
        self._database.close()

    def _look(self) -> None:
        """Raises TallyLostError when the file, or its write-ahead log, is not the one before."""
        if self._path is None:
            return
        for path in (self._path, self._path.with_name(f"{self._path.name}-wal")):
            try:
                status = path.stat()
            except OSError:
                if path in self._files:
                    raise TallyLostError(f"{path} is gone") from None
                continue
            found = status.st_dev, status.st_ino
            if self._files.setdefault(path, found) != found:
                raise TallyLostError(f"{path} is another file than before")

    def _check(self) -> None:
        """Every number is one. Raises ValueError, TypeError."""
        if form_of(self._database) == 1:
            for reports, counts in self._database.execute("SELECT reports, counts FROM totals"):
                Sums(reports, counts_from_text(counts))
            return
        self.state()
        self.all_published()
        for whose in self._database.execute("SELECT version, preset, measured FROM totals"):
            sums_now(self._database, Whose(*whose))

    def _one(self, query: str, values: tuple[object, ...] = ()) -> Any:
        return self._database.execute(query, values).fetchone()


def sums_now(database: sqlite3.Connection, whose: Whose) -> Sums | None:
    """What a tally file has counted for one version, preset and measuring."""
    found = database.execute(f"SELECT reports, counts FROM totals WHERE {_IS}", whose).fetchone()
    if found is None:
        return None
    query = f"SELECT shard, reports, counts FROM shards WHERE {_IS} ORDER BY shard"
    shards = {
        int(shard): (int(reports), counts_from_text(text))
        for shard, reports, text in database.execute(query, whose)
    }
    query = f"SELECT epsilon, answers FROM randomized WHERE {_IS} ORDER BY epsilon"
    randomized = {
        float(epsilon): answers_from_text(text) for epsilon, text in database.execute(query, whose)
    }
    return Sums(int(found[0]), counts_from_text(found[1]), shards, randomized)
