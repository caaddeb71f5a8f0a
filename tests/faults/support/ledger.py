"""What a device process did, line by line, so that a kill loses none of it.

A line is a JSON object; `what` says which of these it is:

    open, ask   a request begins: describing and fetching; answering and reporting for users
    opened      bytes fetched for a model version
    answered    what users were shown, one entry each
    ended       the request is over, and well
    failed      it is over, with an error
    made        a report is about to be kept on the device's disk, with its counts
    kept        it is there: from now on it must be counted once
    counted     the server said that it has it
    refused     the server said that it will not take it

Times are of the system's monotonic clock, which all processes share.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, final

from client.link.connection import Connection, NoAnswerError
from client.stores.reports import PendingReports
from common.errors import VicinalError
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.messages import counts_from_wire

Entry = dict[str, Any]
_LAST_BYTES: Final = 64 << 10


@final
class Ledger:
    """A file that one process at a time appends to."""

    def __init__(self, path: Path) -> None:
        self._descriptor: Final = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, **said: object) -> None:
        os.write(self._descriptor, f"{json.dumps({'what': what, **said})}\n".encode())


def read_ledger(path: Path) -> list[Entry]:
    """All whole lines."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def last_entries(path: Path) -> list[Entry]:
    """The newest lines, as many as are in the last 64 KiB."""
    if not path.exists():
        return []
    with path.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        start = opened.seek(max(0, size - _LAST_BYTES))
        lines = opened.read().split(b"\n")[:-1]
    return [json.loads(line) for line in lines[bool(start) :]]


def counts_entry(counts: Counts) -> Entry:
    return asdict(counts)


def counts_of(said: Entry) -> Counts:
    return Counts(**{**said, "eligible": tuple(said["eligible"]), "hits": tuple(said["hits"])})


@final
class RecordedReports:
    """client.stores.reports.PendingReports, and what it is asked, in a ledger."""

    def __init__(self, reports: PendingReports, ledger: Ledger) -> None:
        self._reports = reports
        self._ledger = ledger

    def keep(self, report: wire.ReportRequest) -> None:
        counts = counts_entry(counts_from_wire(report.counts))
        self._ledger.write("made", key=report.key, version=report.version, counts=counts)
        self._reports.keep(report)
        self._ledger.write("kept", key=report.key)

    def drop(self, report: wire.ReportRequest) -> None:
        self._reports.drop(report)

    def __iter__(self) -> Iterator[wire.ReportRequest]:
        return iter(self._reports)


def recorded_sending(connection: Connection, ledger: Ledger) -> None:
    """Note what becomes of every report that a connection sends."""
    send = connection.send_report

    def recorded(report: wire.ReportRequest) -> bool:
        try:
            new = send(report)
        except NoAnswerError:
            raise
        except VicinalError as error:
            ledger.write("refused", key=report.key, error=str(error))
            raise
        ledger.write("counted", key=report.key, new=new)
        return new

    connection.send_report = recorded  # type: ignore[method-assign]
