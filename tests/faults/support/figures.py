"""What a run under faults came to: ledgers against the versions' own files and the tally."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, final

import numpy as np

from common.ranking import Counts
from common.vicinal.settings import VicinalSettings
from server.recommending.recommender import Recommender
from server.sql.postgresql import Database
from server.versions.folder import read_serving
from tests.faults.support.device_process import PRESET
from tests.faults.support.ledger import Entry, counts_of


@final
class Oracle:
    """The one right answer for a user and a version, from the version's own files."""

    def __init__(self, versions: Path, preset: str = PRESET) -> None:
        self._versions = versions
        self._preset = preset
        self.items = cache(self._items)
        self._served = cache(self._read)

    def _read(self, version: str) -> tuple[Recommender, int, VicinalSettings]:
        recommender, description = read_serving(self._versions, version)
        return recommender, description.list_length, description.preset(self._preset)

    def _items(self, version: str, user: int) -> tuple[int, ...]:
        recommender, length, settings = self._served(version)
        return tuple(recommender.recommend(user, settings, length).tolist())


@dataclass(frozen=True)
class Downtime:
    """Seconds of the monotonic clock in which there was no server."""

    begin: float
    end: float


@dataclass
class Requests:
    """Of one way of asking.

    cut_off  their device was killed before they ended; no_way: a phone without a package, and no
             server
    """

    seconds: list[float] = field(default_factory=list)
    answered: int = 0
    late: int = 0
    cut_off: int = 0
    no_way: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the requests that could be answered, those that were within their deadline."""
        bad = self.late + len(self.failed)
        return self.answered / (self.answered + bad) if self.answered else 0.0


@dataclass
class Reports:
    """made: whole on a device's disk; refused: of a version that was known no more."""

    made: int = 0
    acknowledged: int = 0
    counted: int = 0
    refused: int = 0
    owed: int = 0
    lost: int = 0
    twice: int = 0
    unknown: int = 0


@dataclass
class Figures:
    """All that is claimed of a run."""

    requests: dict[str, Requests] = field(default_factory=dict)
    answers: int = 0
    stale: int = 0
    wrong: list[str] = field(default_factory=list)
    versions: int = 0
    reports: Reports = field(default_factory=Reports)
    sums_differ: list[str] = field(default_factory=list)


def requests_of(
    entries: Sequence[Entry], kind: str, deadline: float, away: Sequence[Downtime]
) -> Requests:
    """Every request of a ledger, by how it ended."""
    found = Requests()
    begun: Entry | None = None
    for entry in entries:
        if entry["what"] in ("open", "ask"):
            found.cut_off += begun is not None
            begun = entry
        elif entry["what"] in ("ended", "failed"):
            begun = None
            end = entry["at"] + entry["seconds"]
            if entry["what"] == "ended":
                found.seconds.append(entry["seconds"])
                found.answered += entry["seconds"] <= deadline
                found.late += entry["seconds"] > deadline
            elif kind == "phone" and entry["error"].startswith("NoAnswerError"):
                gone = any(one.begin < end and entry["at"] < one.end for one in away)
                found.no_way += gone
                found.failed += [] if gone else [entry["error"]]
            else:
                found.failed.append(entry["error"])
    found.cut_off += begun is not None
    return found


def check_answers(figures: Figures, ledgers: Iterable[Sequence[Entry]], oracle: Oracle) -> None:
    """Compare every answer with the oracle's for the version that it names."""
    versions = set()
    for entry in (entry for entries in ledgers for entry in entries):
        for one in entry["entries"] if entry["what"] == "answered" else ():
            versions.add(one["version"])
            figures.answers += 1
            figures.stale += one["stale"]
            if tuple(one["items"]) != oracle.items(one["version"], one["user"]):
                figures.wrong.append(f"user {one['user']}, version {one['version'][:12]}")
    figures.versions = len(versions)


@dataclass(frozen=True)
class _Tally:
    keys: frozenset[str]
    totals: dict[str, tuple[int, Counts]]


def _read_tally(place: Path | Database) -> _Tally:
    """Of an SQLite file, or of servers that share a database."""
    keys_query = "SELECT key FROM keys"
    query = "SELECT version, reports, counts FROM totals WHERE preset = ?"
    if isinstance(place, Database):
        with place.transaction() as sql:
            found = sql.execute(keys_query).fetchall()
            rows = sql.execute(query, (PRESET,)).fetchall()
    else:
        with closing(sqlite3.connect(place)) as database:
            found = database.execute(keys_query).fetchall()
            rows = database.execute(query, (PRESET,)).fetchall()
    totals = {}
    for version, reports, text in rows:
        eligible, hits, *people = json.loads(text)
        assert version not in totals, "one version was measured in two ways"
        totals[version] = reports, Counts(tuple(eligible), tuple(hits), *people)
    return _Tally(frozenset(key for (key,) in found), totals)


def check_reports(
    figures: Figures,
    ledgers: Iterable[Sequence[Entry]],
    tally: Path | Database,
    owed: frozenset[str],
) -> None:
    """Every report that was kept is counted once, or is owed still, or its version is gone.

    owed  keys of the reports that are on the devices' disks at the end
    """
    known: dict[str, dict[str, Entry]] = {}
    for entry in (entry for entries in ledgers for entry in entries):
        if "key" in entry:
            known.setdefault(entry["what"], {})[entry["key"]] = entry
    made, kept = known.get("made", {}), known.get("kept", {})
    acknowledged, refused = known.get("counted", {}), known.get("refused", {})
    there = _read_tally(tally)
    reports = figures.reports
    reports.made = len(kept)
    reports.acknowledged = len(acknowledged)
    reports.counted = len(there.keys)
    reports.refused = len(refused.keys() - there.keys)
    reports.owed = len(owed - there.keys)
    excused = refused.keys() | owed
    reports.lost = len((kept.keys() - there.keys - excused) | (acknowledged.keys() - there.keys))
    reports.unknown = len(there.keys - made.keys())
    counted: Counter[str] = Counter(made[key]["version"] for key in there.keys & made.keys())
    for version in counted.keys() | there.totals.keys():
        number, total = there.totals.get(version, (0, None))
        reports.twice += max(0, number - counted[version])
        mine = [made[key] for key in there.keys & made.keys() if made[key]["version"] == version]
        if total is None or number != counted[version] or total != _sum(mine):
            figures.sums_differ.append(version[:12])


def _sum(entries: Sequence[Entry]) -> Counts:
    first, *others = (counts_of(entry["counts"]) for entry in entries)
    for one in others:
        first += one
    return first


def good(figures: Figures, least_share: float) -> bool:
    """Whether nothing is wrong, lost or counted twice, and nearly all was in time."""
    reports = figures.reports
    wrong = len(figures.wrong) + len(figures.sums_differ)
    wrong += reports.lost + reports.twice + reports.unknown
    every = figures.requests.values()
    answered = sum(one.answered for one in every)
    bad = sum(one.late + len(one.failed) for one in every)
    return figures.answers > 0 and not wrong and answered >= least_share * (answered + bad)


def percentile(seconds: Sequence[float], share: float) -> float:
    return float(np.quantile(seconds, share)) if seconds else 0.0


TABLE_HEAD: Final = (
    "| asked by | requests | in time | late | failed | p50, s | p99, s | longest, s |"
)


def markdown(figures: Figures) -> Iterator[str]:
    """The tables, line by line."""
    yield TABLE_HEAD
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, one in figures.requests.items():
        times = (f"{percentile(one.seconds, share):.2f}" for share in (0.5, 0.99, 1.0))
        asked = one.answered + one.late + len(one.failed)
        cells = (name, asked, f"{100 * one.share:.2f} %", one.late, len(one.failed), *times)
        yield f"| {' | '.join(map(str, cells))} |"
    reports = figures.reports
    yield ""
    yield "| what | |"
    yield "|---|---:|"
    rows: tuple[tuple[str, int], ...] = (
        ("answers compared with the oracle", figures.answers),
        ("of them from a last package, without the server", figures.stale),
        ("**wrong, or of mixed versions**", len(figures.wrong)),
        ("model versions that were answered with", figures.versions),
        ("requests cut off by the kill of their own device", _sum_of(figures, "cut_off")),
        (
            "requests of a phone without a package, and no server",
            _sum_of(figures, "no_way"),
        ),
        ("reports on devices' disks", reports.made),
        ("counted", reports.counted),
        ("refused, because their version was known no more; answered again", reports.refused),
        ("still owed, of a version that was known no more", reports.owed),
        ("**lost**", reports.lost),
        ("**counted twice**", reports.twice + reports.unknown),
        ("**versions whose sums are not those of their reports**", len(figures.sums_differ)),
    )
    for text, count in rows:
        yield f"| {text} | {count:,} |"


def _sum_of(figures: Figures, name: str) -> int:
    return sum(getattr(one, name) for one in figures.requests.values())
