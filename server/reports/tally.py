"""Sums of devices' reports; a restart or a kill loses nothing and counts nothing twice.

Reports are written by a thread of their own, all that wait in one commit: whoever asked goes on
with other calls, and a hundred reports wait for the disk once. Each report of a commit stands for
itself: one that cannot be counted fails alone.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Self, final

from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.vicinal.book import Release
from common.vicinal.settings import VicinalSettings
from common.wire.randomized import ANSWERS
from common.wire.service import REPORT_KEY_SECONDS
from server.reports.report import RandomizedAnswers, Report, ReportRefusedError
from server.reports.steady_clock import SteadyClock
from server.reports.sums import SHARDS, Sums
from server.reports.tally_file import shared_measuring, tally_database, tally_file
from server.reports.tally_tables import TallyTables, Whose
from server.sql.postgresql import Database
from server.sql.statements import LostError, SqlError

FILE_NAME: Final = "tally.sqlite"
# About a hundred bytes each on the disk. The oldest go first.
MAX_KEYS: Final = 1 << 22
MAX_KEY_LENGTH: Final = 64
# About twenty bytes each. Receipts as old as the oldest that go are not taken any more.
MAX_SPENT: Final = 1 << 24
# Sums are told as they stood at the last multiple, so that two of them differ by so many reports.
STEP: Final = 100
# A hundred reports a shard, for the same reason.
SHARD_STEP: Final = STEP * SHARDS
_MAX_BATCH: Final = 1_024

_log = logging.getLogger(__name__)

_Job = tuple[Callable[[], Any], "Future[Any]"]


class TallyError(VicinalError):
    """The tally cannot be written or read now; what was asked may be asked again."""


def measured_by(
    presets: Mapping[str, VicinalSettings],
    watched: tuple[int, ...],
    list_length: int,
    release: Release = "rows",
) -> dict[str, str]:
    """By preset, what its counts depend on beside the model version.

    A server that is started again with other watched items, K or settings begins another sum, and
    so does one with another release.
    """
    # Sums of rows go on that were begun before there were books.
    more = [] if release == "rows" else [release]
    return {
        name: json.dumps([asdict(settings), watched, list_length, *more], sort_keys=True)
        for name, settings in presets.items()
    }


@final
class Tally:
    """Sums of counts by model version and preset; safe to use from many threads.

    eligible  per watched item, the real users who have not rated it: no report can count more
    users     real users
    measured  what else tells sums apart, by preset (measured_by)
    path      of the file; None keeps sums in memory
    database  that other servers count in too, instead of a file
    clock     seconds since 1970, looked at when it is opened; passed: seconds that nobody can set

    latest    what is published of each version and preset that is measured as now
    """

    def __init__(
        self,
        *,
        users: int,
        eligible: tuple[int, ...],
        measured: Mapping[str, str] | None = None,
        path: Path | None = None,
        database: Database | None = None,
        clock: Callable[[], float] = time.time,
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises InputError when the file cannot be used."""
        self._most = Counts(eligible, eligible, users, users, users, users)
        self._limits: dict[str, Counts] = {}
        self._measured: Mapping[str, str] = measured or {}
        self._file, least, published = self._opened(path, database)
        self.now = SteadyClock(least=least, clock=clock, passed=passed)
        self.latest = {
            (whose.version, whose.preset): sums
            for whose, sums in published.items()
            if whose.measured == self._about(whose.preset)
        }
        self._published: dict[tuple[str, str], Sums] = {}
        self._fails = False
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self._writer = Thread(target=self._work, name="tally", daemon=True)
        self._writer.start()

    def _opened(
        self, path: Path | None, database: Database | None
    ) -> tuple[TallyTables, int, dict[Whose, Sums]]:
        """The tables, the latest second in them, and what is published."""
        file = tally_file(path) if database is None else tally_database(database)
        try:
            if database is not None:
                self._measured = shared_measuring(database, self._measured)
            file.begin()
            found = file, file.state().now, file.all_published()
            file.commit()
        except (SqlError, ValueError) as error:
            file.close()
            raise InputError(f"{file}: cannot be used ({error})") from error
        return found

    def limit(self, version: str, eligible: tuple[int, ...], users: int | None = None) -> None:
        """Reports for a version cannot count more than these, instead of `eligible`."""
        users = self._most.users if users is None else users
        self._limits[version] = Counts(eligible, eligible, users, users, users, users)

    def submit(self, report: Report) -> "Future[bool]":
        """Add a report, unless its key is known already; whether it was, once it is on the disk.

        Raises ReportRefusedError for counts that no device could have come to; so does the future,
        for a receipt that was counted before or is too old. The future raises TallyError when the
        file cannot be written.
        """
        checked = self._checked(report)
        return self._ask(lambda: self._add(checked))

    def add(self, version: str, preset: str, key: str, counts: Counts) -> bool:
        """As submit(), of counts that come from no stranger and so need no receipt; and waits."""
        return self.submit(Report(version, preset, key, counts)).result()

    def submit_total(self, version: str, preset: str) -> "Future[tuple[int, Counts]]":
        """Reports counted so far, and their sum. The future raises TallyError."""
        if not (version.isprintable() and preset.isprintable()):
            # A stranger's names, which no database has to take.
            nothing: Future[tuple[int, Counts]] = Future()
            nothing.set_result((0, self._none))
            return nothing
        return self._ask(lambda: self._total(self._whose(version, preset)))

    def total(self, version: str, preset: str) -> tuple[int, Counts]:
        """As submit_total(), and waits."""
        return self.submit_total(version, preset).result()

    def submit_published(self, version: str, preset: str) -> "Future[Sums]":
        """The sums as they stood at the last multiple of STEP; none before the first.

        Shards are those of the last multiple of SHARD_STEP. The future raises TallyError.
        """
        none = Sums.none(len(self._most.eligible))
        return self._ask(lambda: self._file.published(self._whose(version, preset)) or none)

    def close(self) -> None:
        """What was submitted before is written first."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._writer.join()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _ask(self, job: Callable[[], Any]) -> "Future[Any]":
        if self._closed:
            raise VicinalError("the tally is closed")
        future: Future[Any] = Future()
        self._jobs.put((job, future))
        return future

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, last = [first], False
            while len(batch) < _MAX_BATCH and not last:
                try:
                    job = self._jobs.get_nowait()
                except Empty:
                    break
                last = job is None
                batch += [] if job is None else [job]
            self._commit([one for one in batch if one[1].set_running_or_notify_cancel()])
            if last:
                return

    def _commit(self, batch: list[_Job]) -> None:
        """Do jobs in one transaction; nobody is told before it is on the disk."""
        self._published = {}
        try:
            self._file.begin()
            done = [self._outcome(job) for job, _ in batch]
            now = int(self.now())
            self._file.forget(
                now=now,
                before=now - REPORT_KEY_SECONDS,
                most_keys=MAX_KEYS,
                most_spent=MAX_SPENT,
            )
            self._file.commit()
        except Exception as error:  # noqa: BLE001 - whoever asked must be told, whatever it was
            self._file.roll_back()
            self._failed(error)
            for _, future in batch:
                future.set_exception(TallyError(f"tally: {error}"))
            return
        if self._fails:
            self._fails = False
            _log.warning("%s: reports are counted again", self._file)
        # A new dict: whoever reads it in another thread has the one before, whole.
        self.latest = {**self.latest, **self._published}
        for (_, future), (result, refusal) in zip(batch, done, strict=True):
            if refusal is None:
                future.set_result(result)
            else:
                future.set_exception(refusal)

    def _outcome(self, job: Callable[[], Any]) -> tuple[Any, Exception | None]:
        """A job's result or what it raised; a disk that fails fails them all."""
        try:
            with self._file.part():
                return job(), None
        except SqlError:
            raise
        except Exception as error:  # noqa: BLE001 - whoever asked must be told, whatever it was
            return None, error

    def _failed(self, error: Exception) -> None:
        """Say it once, however many reports it concerns."""
        if self._fails:
            return
        self._fails = True
        advice = (
            "start the server again to begin another"
            if isinstance(error, LostError)
            else "free some space if the disk is full"
            if self._file.option == "--tally"
            else "start the database again, or let this server reach it"
        )
        _log.error(
            "%s: %s; no report is counted until that is mended, and devices keep theirs: %s",
            self._file,
            error,
            advice,
        )

    def _add(self, report: Report) -> bool:
        now = int(self.now())
        if not self._file.remember(report.key, now):
            return False
        self._spend(report, now)
        whose = self._whose(report.version, report.preset)
        reports, total = self._total(whose)
        self._file.write_total(whose, reports + 1, total + report.counts)
        in_shard, part = self._file.shard(whose, report.shard) or (0, self._none)
        self._file.write_shard(whose, report.shard, in_shard + 1, part + report.counts)
        if report.randomized is not None:
            self._add_randomized(whose, report.randomized)
        if (reports + 1) % STEP == 0:
            self._publish(whose)
        return True

    def _spend(self, report: Report, now: int) -> None:
        """Raises ReportRefusedError."""
        oldest = max(self._file.state().oldest, now - REPORT_KEY_SECONDS)
        if any(receipt.issued < oldest for receipt in (*report.fresh, *report.stale)):
            raise ReportRefusedError("expired", "a receipt in it is too old")
        if not (
            self._file.spend(report.fresh, stale=False)
            and self._file.spend(report.stale, stale=True)
        ):
            raise ReportRefusedError("repeated", "a receipt in it was counted before")

    def _add_randomized(self, whose: Whose, given: RandomizedAnswers) -> None:
        size = ANSWERS * (len(self._most.eligible) + 1)
        answers = self._file.randomized(whose, given.epsilon) or [0] * size
        for question, answer in zip(given.questions, given.answers, strict=True):
            answers[ANSWERS * question + answer] += 1
        self._file.write_randomized(whose, given.epsilon, answers)

    def _publish(self, whose: Whose) -> None:
        sums, before = self._file.sums(whose), self._file.published(whose)
        assert sums is not None
        if sums.reports % SHARD_STEP:
            shards = {} if before is None else before.shards
            sums = Sums(sums.reports, sums.counts, shards, sums.randomized)
        self._file.publish(whose, sums)
        self._published[whose.version, whose.preset] = sums

    def _total(self, whose: Whose) -> tuple[int, Counts]:
        return self._file.total(whose) or (0, self._none)

    @property
    def _none(self) -> Counts:
        return Counts.none(len(self._most.eligible))

    def _whose(self, version: str, preset: str) -> Whose:
        return Whose(version, preset, self._about(preset))

    def _about(self, preset: str) -> str:
        return self._measured.get(preset, "")

    def _checked(self, report: Report) -> Report:
        """A report that can be added. Raises ReportRefusedError."""
        most, counts = self._limits.get(report.version, self._most), report.counts
        watched = len(most.eligible)
        if not 0 < len(report.key) <= MAX_KEY_LENGTH:
            raise ReportRefusedError("key", f"its key needs 1–{MAX_KEY_LENGTH} characters")
        if not report.key.isprintable():
            raise ReportRefusedError("key", "its key has characters that cannot be printed")
        if report.randomized is not None:
            if max(report.randomized.questions) > watched:
                raise ReportRefusedError("randomized", f"questions are 0–{watched}")
            # It counts nothing, of as many items as there are.
            nothing = self._none
            counts = replace(counts, eligible=nothing.eligible, hits=nothing.hits)
        if len(counts.eligible) != watched:
            raise ReportRefusedError(
                "counts", f"counts of {len(counts.eligible)} watched items, not {watched}"
            )
        if max(counts.users, counts.answered) > most.users:
            many = max(counts.users, counts.answered)
            raise ReportRefusedError("counts", f"{many} users, but there are {most.users}")
        for eligible, limit in zip(counts.eligible, most.eligible, strict=True):
            if eligible > limit:
                raise ReportRefusedError(
                    "counts", f"{eligible} eligible users, but there are {limit}"
                )
        return replace(report, counts=counts)
