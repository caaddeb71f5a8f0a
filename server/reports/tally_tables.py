"""A tally's tables, in whichever database: an SQLite file, or PostgreSQL that servers share.

    totals      per version, preset and what was measured: reports counted, and their sum
    shards      the same for each shard
    randomized  the same for each ε: how often each question got each answer
    published   the same as it stood at the last hundredth report: what is told
    keys        of the reports counted, with the second in which each came
    spent       receipts that were counted, by when they were issued
    state       one row: the latest second, how many keys and receipts there are, and the oldest
                second of receipts that are still taken

A report's key, receipts and counts are committed together, or none of them is.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, final

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
from server.sql.statements import Transactions, bounded

# What is deleted with a commit at most, beyond twice what was added.
_PIECE: Final = 64
IS: Final = "(version, preset, measured) = (?, ?, ?)"
_OF: Final = "ON CONFLICT (version, preset, measured"
_COUNTS: Final = bounded("counts")
# Sums of so many versions and presets are looked through when a tally is opened.
MAX_SUMS: Final = 1 << 20
_ALL_SUMS: Final = (
    f"SELECT {bounded('version')}, {bounded('preset')}, {bounded('measured')} FROM totals "
    f"LIMIT {MAX_SUMS}"
)


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
class TallyTables:
    """Of one database; for one thread at a time. What it raises is of Transactions."""

    def __init__(self, sql: Transactions, name: str, option: str) -> None:
        """name: of what is said; option: what can be chosen instead."""
        self._sql = sql
        self._name = name
        self.option = option
        self._keys_added = self._spent_added = 0

    def __str__(self) -> str:
        return f"tally {self._name}"

    def begin(self) -> None:
        self._sql.begin()
        self._keys_added = self._spent_added = 0

    def commit(self) -> None:
        self._sql.commit()

    def roll_back(self) -> None:
        """Never raises."""
        self._sql.roll_back()

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part of a transaction: what raises in it has changed nothing."""
        added = self._keys_added, self._spent_added
        try:
            with self._sql.part():
                yield
        except BaseException:
            self._keys_added, self._spent_added = added
            raise

    def state(self) -> State:
        return State(*self._one("SELECT now, keys, spent, oldest FROM state"))

    def remember(self, key: str, came: int) -> bool:
        """Whether a key is new."""
        new = "INSERT INTO keys VALUES (?, ?) ON CONFLICT DO NOTHING"
        added = self._sql.execute(new, (key, came)).rowcount == 1
        self._keys_added += added
        return added

    def spend(self, receipts: Iterable[Receipt], *, stale: bool) -> bool:
        """Whether none of them had been spent; as one of a stale answer it may have been apart."""
        new = "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        for receipt in receipts:
            values = (receipt.issued, receipt.nonce, int(stale))
            if self._sql.execute(new, values).rowcount != 1:
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
            (issued,) = self._one(
                "SELECT issued FROM spent ORDER BY issued LIMIT 1 OFFSET ?", (last,)
            )
            oldest = max(oldest, issued + 1)
        gone = self._sql.execute(
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
        keys -= self._sql.execute(old_keys, (before, piece)).rowcount
        if keys > most_keys:
            many = (1 << 62, min(piece, keys - most_keys))
            keys -= self._sql.execute(old_keys, many).rowcount
        self._sql.execute(
            "UPDATE state SET now = CASE WHEN now < ? THEN ? ELSE now END, keys = ?, spent = ?, "
            "oldest = ?",
            (now, now, keys, spent, oldest),
        )

    def total(self, whose: Whose) -> tuple[int, Counts] | None:
        found = self._one(f"SELECT reports, {_COUNTS} FROM totals WHERE {IS}", whose)
        return None if found is None else (int(found[0]), counts_from_text(found[1]))

    def write_total(self, whose: Whose, reports: int, counts: Counts) -> None:
        values = (*whose, reports, counts_text(counts))
        self._sql.execute(
            f"INSERT INTO totals VALUES (?, ?, ?, ?, ?) {_OF}) "
            "DO UPDATE SET reports = excluded.reports, counts = excluded.counts",
            values,
        )

    def shard(self, whose: Whose, shard: int) -> tuple[int, Counts] | None:
        query = f"SELECT reports, {_COUNTS} FROM shards WHERE {IS} AND shard = ?"
        found = self._one(query, (*whose, shard))
        return None if found is None else (int(found[0]), counts_from_text(found[1]))

    def write_shard(self, whose: Whose, shard: int, reports: int, counts: Counts) -> None:
        values = (*whose, shard, reports, counts_text(counts))
        self._sql.execute(
            f"INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?) {_OF}, shard) "
            "DO UPDATE SET reports = excluded.reports, counts = excluded.counts",
            values,
        )

    def randomized(self, whose: Whose, epsilon: float) -> list[int] | None:
        query = f"SELECT {bounded('answers')} FROM randomized WHERE {IS} AND epsilon = ?"
        found = self._one(query, (*whose, epsilon))
        return None if found is None else list(answers_from_text(found[0]))

    def write_randomized(self, whose: Whose, epsilon: float, answers: list[int]) -> None:
        values = (*whose, epsilon, json.dumps(answers))
        self._sql.execute(
            f"INSERT INTO randomized VALUES (?, ?, ?, ?, ?) {_OF}, epsilon) "
            "DO UPDATE SET answers = excluded.answers",
            values,
        )

    def sums(self, whose: Whose) -> Sums | None:
        """All that was counted so far, shards and randomized answers too."""
        return sums_now(self._sql, whose)

    def published(self, whose: Whose) -> Sums | None:
        found = self._one(f"SELECT {bounded('sums')} FROM published WHERE {IS}", whose)
        return None if found is None else sums_from_text(found[0])

    def publish(self, whose: Whose, sums: Sums) -> None:
        values = (*whose, sums_text(sums))
        self._sql.execute(
            f"INSERT INTO published VALUES (?, ?, ?, ?) {_OF}) DO UPDATE SET sums = excluded.sums",
            values,
        )

    def all_published(self) -> dict[Whose, Sums]:
        asked = (
            f"SELECT version, preset, measured, {bounded('sums')} FROM published LIMIT {MAX_SUMS}"
        )
        rows = self._sql.execute(asked).fetchall()
        return {Whose(*whose): sums_from_text(text) for *whose, text in rows}

    def check(self) -> None:
        """Every number is one. Raises ValueError, TypeError."""
        self.state()
        self.all_published()
        # What is not measured here is not looked into, and may be called whatever it is.
        for row in self._sql.execute(_ALL_SUMS).fetchall():
            sums_now(self._sql, Whose(*row))

    def close(self) -> None:
        """Nothing is lost without it."""
        self._sql.close()

    def _one(self, query: str, values: tuple[object, ...] = ()) -> Any:
        return self._sql.execute(query, values).fetchone()


def all_sums(sql: Transactions) -> list[Whose]:
    """Of which there are sums. Raises ValueError for names that are no lines of text."""
    return [_whose(*row) for row in sql.execute(_ALL_SUMS).fetchall()]


def _whose(*names: object) -> Whose:
    texts = [each for each in names if isinstance(each, str)]
    if len(texts) < 3 or not all(each.isprintable() for each in texts):
        raise ValueError("a version or preset whose name is none")
    return Whose(*texts)


def sums_now(sql: Transactions, whose: Whose) -> Sums | None:
    """What a tally has counted for one version, preset and measuring."""
    asked = f"SELECT reports, {_COUNTS} FROM totals WHERE {IS}"
    found = sql.execute(asked, whose).fetchone()
    if found is None:
        return None
    asked = f"SELECT shard, reports, {_COUNTS} FROM shards WHERE {IS} ORDER BY shard LIMIT 1024"
    shards = {
        int(shard): (int(reports), counts_from_text(text))
        for shard, reports, text in sql.execute(asked, whose).fetchall()
    }
    asked = (
        f"SELECT epsilon, {bounded('answers')} FROM randomized WHERE {IS} ORDER BY epsilon "
        "LIMIT 1024"
    )
    randomized = {
        float(epsilon): answers_from_text(text)
        for epsilon, text in sql.execute(asked, whose).fetchall()
    }
    return Sums(int(found[0]), counts_from_text(found[1]), shards, randomized)
