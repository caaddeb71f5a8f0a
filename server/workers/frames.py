"""Frames between the front of a server and its worker processes, over a socket pair.

    request   call (1 byte), length (4), the request's protobuf bytes
    result    status (1), seconds of neighbors, tune, rank (3 × 8), lengths (2 × 4), reply,
              users in the package

One request at a time: a result belongs to the request before it. A worker's first result,
of no request, says that it is ready; its end is the end of the socket.
"""

import asyncio
import socket
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import BinaryIO, Final, Literal, Protocol

from common.wire.service import MAX_ANSWER_BYTES

Call = Literal["Recommend", "GetPackage", "Explain"]
CALLS: Final[tuple[Call, ...]] = ("Recommend", "GetPackage", "Explain")
# The argument with which a worker process fine-tunes in compiled loops.
COMPILED: Final = "compiled"
STAGES: Final = ("neighbors", "tune", "rank")

_REQUEST: Final = Struct("<BI")
_RESULT: Final = Struct("<B3dII")
# The largest package that a device takes, and room beside it: more is a worker gone wrong.
MAX_RESULT_BYTES: Final = MAX_ANSWER_BYTES + (1 << 20)


class Status(IntEnum):
    """What a result's bytes are: a reply message, the line of an InputError, or nothing.

    GONE: the request's version was dropped while it waited.
    """

    ANSWERED = 0
    REFUSED = 1
    FAILED = 2
    GONE = 3


@dataclass(frozen=True)
class WorkerResult:
    """What came of a request: a status and its bytes.

    seconds    by stage, of STAGES; 0 for a stage that the call has not
    queued     seconds that the request waited for a worker
    neighbors  users whose rows are in a package, uint32, little-endian; for the front alone
    """

    status: Status
    data: bytes = b""
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    queued: float = 0.0
    neighbors: bytes = b""


class Workers(Protocol):
    """What computes replies: worker processes (server.workers.crew), in tests threads too."""

    async def ask(self, call: Call, preset: str, request: bytes) -> WorkerResult:
        """Raises SaturatedError, WorkerLostError, BudgetSpentError."""


class WorkerLostError(Exception):
    """A worker process ended before it answered."""


READY: Final = WorkerResult(Status.ANSWERED)


def read_request(stream: BinaryIO) -> tuple[Call, bytes] | None:
    """The next request, in a worker; None when the front has closed the socket."""
    head = stream.read(_REQUEST.size)
    if len(head) < _REQUEST.size:
        return None
    call, length = _REQUEST.unpack(head)
    data = stream.read(length)
    return (CALLS[call], data) if len(data) == length else None


def write_result(connection: socket.socket, result: WorkerResult) -> None:
    """Raises OSError when the front has closed the socket."""
    lengths = len(result.data), len(result.neighbors)
    head = _RESULT.pack(result.status, *result.seconds, *lengths)
    connection.sendall(head + result.data + result.neighbors)


def write_request(writer: asyncio.StreamWriter, call: Call, data: bytes) -> None:
    writer.write(_REQUEST.pack(CALLS.index(call), len(data)) + data)


async def read_result(reader: asyncio.StreamReader) -> WorkerResult:
    """The next result, in the front. Raises WorkerLostError."""
    try:
        status, *seconds, length, more = _RESULT.unpack(await reader.readexactly(_RESULT.size))
        if length + more > MAX_RESULT_BYTES:
            raise WorkerLostError(f"a result of {length + more} bytes")
        find, tune, rank = seconds
        data, neighbors = await reader.readexactly(length), await reader.readexactly(more)
        return WorkerResult(Status(status), data, (find, tune, rank), neighbors=neighbors)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise WorkerLostError("it ended") from error
    except ValueError as error:
        raise WorkerLostError("a result of no known status") from error
