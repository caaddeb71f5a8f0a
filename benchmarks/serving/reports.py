"""How many reports a second a server counts, and what it costs to lose none of them.

Reports of 25 users are added to a tally file, one after another or many at once; those that wait at
the same time share a commit. *FULL* waits for the disk at every commit. *NORMAL* leaves that to
SQLite's checkpoints: after a power failure, reports that devices were told are counted would be
lost. The times are those of this machine's disk; the ratio says how much sharing commits saves.
"""

import time
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.report import Section, progress, run, table
from common.ranking import Counts
from server.reports.report import Report
from server.reports.tally import Tally
from server.sql.sqlite import SqliteTransactions

TOGETHER: Final = (1, 16, 256)
MODES: Final = ("FULL", "NORMAL")
COUNTS: Final = Counts((24,) * 5, (1,) * 5, 25, 10, 20, 8)


def section(short: bool) -> Section:
    figures = [
        measure(mode, together, seconds=0.5 if short else 5.0)
        for together in TOGETHER
        for mode in MODES
    ]
    rows = [
        [found["mode"], str(found["together"]), f"{found['per_second']:,.0f}"] for found in figures
    ]
    heads = ("synchronous", "reports at once", "reports a second")
    text = f"## Reports\n\n{__doc__.strip()}\n\n{table(heads, rows)}\n"
    return Section(text, {"reports": figures})


def measure(mode: str, together: int, *, seconds: float) -> dict[str, Any]:
    """Reports a second with `together` of them on their way."""
    progress(f"reports: {mode}, {together} at once")
    with (
        TemporaryDirectory() as folder,
        Tally(users=1000, eligible=(1000,) * 5, path=Path(folder) / "tally.sqlite") as tally,
    ):
        sql = tally._file._sql
        assert isinstance(sql, SqliteTransactions)
        sql.database.execute(f"PRAGMA synchronous = {mode}")
        begun, sent = time.perf_counter(), 0
        while time.perf_counter() < begun + seconds:
            waiting: list[Future[bool]] = []
            for _ in range(together):
                waiting.append(tally.submit(Report("version", "preset", f"{sent:064}", COUNTS)))
                sent += 1
            if not all(future.result() for future in waiting):
                raise AssertionError("a report was not counted")
        taken = time.perf_counter() - begun
    return {"mode": mode, "together": together, "per_second": sent / taken}


if __name__ == "__main__":
    run(section)
