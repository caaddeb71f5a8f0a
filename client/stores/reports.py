"""Reports that a device owes: on its disk before the first attempt, until the server has them.

    STORE/reports/SERVER/KEY.report    a ReportRequest, whose key is KEY

SERVER is a digest of the address of the server that gave the answers: no other one is told of them.

A device that is killed, or finds no server, sends them at its next start under the same key, so
that a report whose answer was lost is not counted twice. Many processes may share a folder.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, final

from google.protobuf.message import DecodeError

from common.errors import InputError, VicinalError
from common.files import clear_parts, read_file, write_file
from common.wire import offload_pb2 as wire
from common.wire.messages import counts_from_wire
from common.wire.service import MAX_REPORT_AGE_SECONDS, MAX_REQUEST_BYTES

_SUFFIX: Final = ".report"
# As Session makes them.
_KEY: Final = re.compile(r"[0-9a-f]{32}")


def reports_folder(store: Path, server: str) -> Path:
    """Where the reports are that a device with this store owes to a server, HOST:PORT."""
    return store / "reports" / hashlib.sha256(server.encode()).hexdigest()[:16]


@final
class PendingReports:
    """A folder of reports; it is made when the first one is kept."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    def keep(self, report: wire.ReportRequest) -> None:
        """Raises VicinalError when it cannot be written; nothing is left then."""
        try:
            write_file(self._path(report), report.SerializeToString())
        except OSError as error:
            raise VicinalError(
                f"device store {self._folder}: cannot write a report ({error.strerror}); "
                "free some space or choose another --store"
            ) from error

    def drop(self, report: wire.ReportRequest) -> None:
        """The server has it, or will never take it."""
        with suppress(OSError):
            self._path(report).unlink()

    def __iter__(self) -> Iterator[wire.ReportRequest]:
        """Reports that are owed; what is damaged or too old is deleted."""
        clear_parts(self._folder)
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            # Another process may have sent and deleted it meanwhile.
            with suppress(OSError):
                report = self._read(path)
                if report is None:
                    # Whatever else has this suffix is not ours to delete.
                    if _KEY.fullmatch(path.stem):
                        path.unlink()
                else:
                    yield report

    def _read(self, path: Path) -> wire.ReportRequest | None:
        found = path.stat()
        # No server takes what is larger.
        if found.st_size > MAX_REQUEST_BYTES:
            return None
        if self._clock() - found.st_mtime > MAX_REPORT_AGE_SECONDS:
            return None
        try:
            report = wire.ReportRequest.FromString(read_file(path, most=MAX_REQUEST_BYTES))
            counts_from_wire(report.counts)
        except (DecodeError, InputError):
            return None
        return report if self._path(report) == path else None

    def _path(self, report: wire.ReportRequest) -> Path:
        return self._folder / f"{report.key}{_SUFFIX}"
