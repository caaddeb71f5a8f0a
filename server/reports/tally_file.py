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
from common.files import make_folder, make_private
from common.ranking import Counts
from server.reports.report import Receipt
from server.reports.sums import (
    Sums,
    answers_from_text,
    counts_from_text,
    counts_text,
    sums_from_text,
    sums_text,
)

# "Vict", in the header of every tally file; other SQLite files have another number there.
APPLICATION_ID: Final = 0x56696374
FORMAT: Final = 2
_BUSY_SECONDS: Final = 5.0
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
    f"PRAGMA application_id = {APPLICATION_ID}",
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
    f"PRAGMA user_version = {FORMAT}",
)


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
            if path is not None:
                make_folder(path.parent)
                if not path.exists():
                    make_private(path)
            self._database = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._open()
                _tighten(path)
            except BaseException:
                self._database.close()
                raise
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"tally {self._name}: cannot be used ({reason}); move it away, or choose another "
                "--tally"
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

    def _open(self) -> None:
        """Look before anything is changed: the file may be somebody else's."""
        (identity,), (form,) = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        (tables,) = self._one("SELECT COUNT(*) FROM sqlite_master")
        require_plain(self._database)
        if tables == identity == form == 0:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._do(*_TOTALS, *_ADDED)
        elif identity != APPLICATION_ID:
            raise ValueError("an SQLite file, but not a tally")
        elif form not in (1, FORMAT):
            raise ValueError(f"a tally of format {form}, not {FORMAT}")
        (checked,) = self._one("PRAGMA quick_check(1)")
        if checked != "ok":
            raise ValueError(f"damaged: {checked}")
        self._check()
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        if form == 1:
            self._do(*_ADDED)
            self._check()
        if self._path is not None:
            self._look()

    def _check(self) -> None:
        """Every number is one. Raises ValueError, TypeError."""
        (form,) = self._one("PRAGMA user_version")
        if form == 1:
            for reports, counts in self._database.execute("SELECT reports, counts FROM totals"):
                Sums(reports, counts_from_text(counts))
            return
        self.state()
        self.all_published()
        for whose in self._database.execute("SELECT version, preset, measured FROM totals"):
            sums_now(self._database, Whose(*whose))

    def _do(self, *statements: str) -> None:
        """In one transaction."""
        self._database.execute("BEGIN IMMEDIATE")
        for statement in statements:
            self._database.execute(statement)
        self._database.execute("COMMIT")

    def _one(self, query: str, values: tuple[object, ...] = ()) -> Any:
        return self._database.execute(query, values).fetchone()


def require_plain(database: sqlite3.Connection) -> None:
    """Raises ValueError for a file that would do more than hold tables when it is read or written.

    A view may have no end, and a trigger deletes what was counted.
    """
    query = (
        "SELECT COUNT(*) FROM sqlite_master "
        "WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'"
    )
    if database.execute(query).fetchone() != (0,):
        raise ValueError("it has views or triggers, which a tally has not")


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


def _tighten(path: Path | None) -> None:
    """It says who reported what, and so do the files beside it: for their owner alone."""
    if path is not None:
        for suffix in ("", "-wal", "-shm"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                make_private(beside)
