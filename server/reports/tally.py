"""Sums of devices' reports; a restart or a kill loses nothing and counts nothing twice.

Reports are written by a thread of their own, all that wait in one commit: whoever asked goes on
with other calls, and a hundred reports wait for the disk once.
"""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Self, final

from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.vicinal.settings import VicinalSettings
from common.wire.service import REPORT_KEY_SECONDS
from server.reports.tally_file import TallyFile

FILE_NAME: Final = "tally.sqlite"
# About a hundred bytes each on the disk. The oldest go first.
MAX_KEYS: Final = 1 << 22
MAX_KEY_LENGTH: Final = 64
# Between looks for keys to forget.
_FORGET_SECONDS: Final = 3_600
_MAX_BATCH: Final = 1_024

_Job = tuple[Callable[[], Any], "Future[Any]"]


def measured_by(
    presets: Mapping[str, VicinalSettings], watched: tuple[int, ...], list_length: int
) -> dict[str, str]:
    """By preset, what its counts depend on beside the model version.

    A server that is started again with other watched items, K or settings begins another sum.
    """
    return {
        name: json.dumps([asdict(settings), watched, list_length], sort_keys=True)
        for name, settings in presets.items()
    }


@final
class Tally:
    """Sums of counts by model version and preset; safe to use from many threads.

    eligible  per watched item, the real users who have not rated it: no report can count more
    users     real users
    measured  what else tells sums apart, by preset (measured_by)
    path      of the file; None keeps sums in memory
    clock     seconds since 1970
    """

    def __init__(
        self,
        *,
        users: int,
        eligible: tuple[int, ...],
        measured: Mapping[str, str] | None = None,
        path: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises InputError when the file cannot be used."""
        self._most = Counts(eligible, eligible, users, users, users, users)
        self._limits: dict[str, Counts] = {}
        self._measured = measured or {}
        self._clock = clock
        self._file = TallyFile(path)
        self._forget_at = -float("inf")
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self._writer = Thread(target=self._work, name="tally", daemon=True)
        self._writer.start()

    def limit(self, version: str, eligible: tuple[int, ...]) -> None:
        """Reports for a version cannot count more than these, instead of `eligible`."""
        users = self._most.users
        self._limits[version] = Counts(eligible, eligible, users, users, users, users)

    def submit(self, version: str, preset: str, key: str, counts: Counts) -> "Future[bool]":
        """Add a report, unless its key is known already; whether it was, once it is on the disk.

        Raises InputError for a key that is empty or too long, and for counts that no device
        could have come to. The future raises VicinalError when the file cannot be written.
        """
        if not 0 < len(key) <= MAX_KEY_LENGTH:
            raise InputError(f"report: its key needs 1–{MAX_KEY_LENGTH} characters")
        self._check(version, counts)
        return self._ask(lambda: self._add(version, preset, key, counts))

    def add(self, version: str, preset: str, key: str, counts: Counts) -> bool:
        """As submit(), and waits."""
        return self.submit(version, preset, key, counts).result()

    def submit_total(self, version: str, preset: str) -> "Future[tuple[int, Counts]]":
        """Reports counted so far, and their sum. The future raises VicinalError."""
        return self._ask(lambda: self._total(version, preset))

    def total(self, version: str, preset: str) -> tuple[int, Counts]:
        """As submit_total(), and waits."""
        return self.submit_total(version, preset).result()

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
        try:
            self._file.begin()
            self._forget()
            done = [job() for job, _ in batch]
            self._file.commit()
        except Exception as error:  # noqa: BLE001 - whoever asked must be told, whatever it was
            self._file.roll_back()
            for _, future in batch:
                future.set_exception(VicinalError(f"tally: {error}"))
            return
        for (_, future), result in zip(batch, done, strict=True):
            future.set_result(result)

    def _forget(self) -> None:
        now = self._clock()
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_SECONDS
            self._file.forget(before=int(now) - REPORT_KEY_SECONDS, most=MAX_KEYS)

    def _add(self, version: str, preset: str, key: str, counts: Counts) -> bool:
        if not self._file.remember(key, int(self._clock())):
            return False
        reports, total = self._total(version, preset)
        self._file.write_total(version, preset, self._about(preset), reports + 1, total + counts)
        return True

    def _total(self, version: str, preset: str) -> tuple[int, Counts]:
        found = self._file.total(version, preset, self._about(preset))
        return found or (0, Counts.none(len(self._most.eligible)))

    def _about(self, preset: str) -> str:
        return self._measured.get(preset, "")

    def _check(self, version: str, counts: Counts) -> None:
        most = self._limits.get(version, self._most)
        if len(counts.eligible) != len(most.eligible):
            raise InputError(
                f"report: counts of {len(counts.eligible)} watched items, not {len(most.eligible)}"
            )
        if counts.users > most.users:
            raise InputError(f"report: {counts.users} users, but there are {most.users}")
        if counts.answered > most.users:
            raise InputError(f"report: {counts.answered} users answered of {most.users}")
        for eligible, limit in zip(counts.eligible, most.eligible, strict=True):
            if eligible > limit:
                raise InputError(f"report: {eligible} eligible users, but there are {limit}")
