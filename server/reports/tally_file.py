"""The tally on disk: an SQLite file in WAL mode, whole after any crash.

    totals  per version, preset and what was measured: reports counted, and their sum
    keys    of the reports counted, with the second in which each came

A report's key and its counts are committed together, or neither is. Every commit waits for the
disk (synchronous=FULL): a device throws its report away when it is told that it was counted, and
with less a power failure could take back what was told.
"""

import json
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, final

from common.errors import InputError
from common.ranking import Counts

# "Vict", in the header of every tally file; other SQLite files have another number there.
APPLICATION_ID: Final = 0x56696374
FORMAT: Final = 1
_BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = (
    "CREATE TABLE totals (version TEXT, preset TEXT, measured TEXT, reports INTEGER NOT NULL, "
    "counts TEXT NOT NULL, PRIMARY KEY (version, preset, measured)) WITHOUT ROWID",
    "CREATE TABLE keys (key TEXT PRIMARY KEY, came INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX keys_by_age ON keys (came)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)


@final
class TallyFile:
    """One connection; used by one thread at a time. None as a path keeps all in memory."""

    def __init__(self, path: Path | None) -> None:
        """Raises InputError for a file that is damaged, or is not a tally."""
        self._name = "in memory" if path is None else str(path)
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._open()
            except BaseException:
                self._database.close()
                raise
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"tally {self._name}: cannot be used ({reason}); move it away, or choose another "
                "--tally"
            ) from error

    def begin(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._database.execute("COMMIT")

    def roll_back(self) -> None:
        """Never raises: what cannot be rolled back now is at the next transaction."""
        with suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    def remember(self, key: str, came: int) -> bool:
        """Whether a key is new."""
        new = "INSERT OR IGNORE INTO keys VALUES (?, ?)"
        return self._database.execute(new, (key, came)).rowcount == 1

    def forget(self, *, before: int, most: int) -> None:
        """Forget keys that came before a second, and the oldest of more than `most`."""
        self._database.execute("DELETE FROM keys WHERE came < ?", (before,))
        (count,) = self._one("SELECT COUNT(*) FROM keys")
        if count > most:
            oldest = "DELETE FROM keys WHERE key IN (SELECT key FROM keys ORDER BY came LIMIT ?)"
            self._database.execute(oldest, (count - most,))

    def total(self, version: str, preset: str, measured: str) -> tuple[int, Counts] | None:
        found = self._one(
            "SELECT reports, counts FROM totals WHERE (version, preset, measured) = (?, ?, ?)",
            (version, preset, measured),
        )
        return None if found is None else (int(found[0]), _counts(found[1]))

    def write_total(
        self, version: str, preset: str, measured: str, reports: int, counts: Counts
    ) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO totals VALUES (?, ?, ?, ?, ?)",
            (version, preset, measured, reports, _text(counts)),
        )

    def close(self) -> None:
        """Nothing is lost without it: it folds the write-ahead log into the file."""
        self._database.close()

    def _open(self) -> None:
        """Look before anything is changed: the file may be somebody else's."""
        (identity,), (form,) = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        (tables,) = self._one("SELECT COUNT(*) FROM sqlite_master")
        if tables == identity == form == 0:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._create()
        elif identity != APPLICATION_ID:
            raise ValueError("an SQLite file, but not a tally")
        elif form != FORMAT:
            raise ValueError(f"a tally of format {form}, not {FORMAT}")
        (checked,) = self._one("PRAGMA quick_check(1)")
        if checked != "ok":
            raise ValueError(f"damaged: {checked}")
        for reports, counts in self._database.execute("SELECT reports, counts FROM totals"):
            if reports < 0:
                raise ValueError("damaged: a negative number of reports")
            _counts(counts)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")

    def _create(self) -> None:
        self.begin()
        for statement in _SCHEMA:
            self._database.execute(statement)
        self.commit()

    def _one(self, query: str, values: tuple[object, ...] = ()) -> Any:
        return self._database.execute(query, values).fetchone()


def _text(counts: Counts) -> str:
    ways = (counts.on_device, counts.stale, counts.by_server)
    people = (counts.users, counts.user_hits, counts.liked, counts.liked_hits)
    return json.dumps([counts.eligible, counts.hits, *people, *ways])


def _counts(text: str) -> Counts:
    """Raises ValueError, TypeError for anything but what _text() writes."""
    eligible, hits, *people = json.loads(text)
    return Counts(tuple(map(int, eligible)), tuple(map(int, hits)), *map(int, people))
