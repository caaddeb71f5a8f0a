"""What passes between the front of a server and its worker processes, over a socket pair.

    request   call (1 byte), length (4), the request's protobuf bytes
    answer    outcome (1), seconds of neighbors, tune, rank (3 × 8), lengths (2 × 4), reply,
              users in the package

One request at a time: an answer belongs to the request before it. A worker's first answer,
to no request, says that it is ready; its end is the end of the socket.
"""

import asyncio
import socket
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import BinaryIO, Final, Literal, Protocol

from common.wire.service import MAX_ANSWER_BYTES

Call = Literal["Recommend", "GetPackage"]
CALLS: Final[tuple[Call, ...]] = ("Recommend", "GetPackage")
# The argument with which a worker process fine-tunes in compiled loops.
COMPILED: Final = "compiled"
STAGES: Final = ("neighbors", "tune", "rank")

_REQUEST: Final = Struct("<BI")
_ANSWER: Final = Struct("<B3dII")
# The largest package that a device takes, and room beside it: more is a worker gone wrong.
MAX_FRAME_BYTES: Final = MAX_ANSWER_BYTES + (1 << 20)


class Outcome(IntEnum):
    """What an answer's bytes are: a reply message, the line of an InputError, or nothing.

    GONE: the request's version was dropped while it waited.
    """

    ANSWERED = 0
    REFUSED = 1
    FAILED = 2
    GONE = 3


@dataclass(frozen=True)
class Answer:
    """What a worker made of a request.

    seconds    by stage, of STAGES; 0 for a stage that the call has not
    queued     seconds that the request waited for a worker
    neighbors  users whose rows are in a package, uint32, little-endian; for the front alone
    """

    outcome: Outcome
    data: bytes = b""
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    queued: float = 0.0
    neighbors: bytes = b""


class Answers(Protocol):
    """Whoever does the arithmetic: worker processes (server.workers.crew), in tests threads too."""

    async def ask(self, call: Call, preset: str, request: bytes) -> Answer:
        """Raises SaturatedError, WorkerLostError, BudgetSpentError."""


class WorkerLostError(Exception):
    """A worker process ended before it answered."""


READY: Final = Answer(Outcome.ANSWERED)


def read_request(stream: BinaryIO) -> tuple[Call, bytes] | None:
    """The next request, in a worker; None when the front has closed the socket."""
    head = stream.read(_REQUEST.size)
    if len(head) < _REQUEST.size:
        return None
    call, length = _REQUEST.unpack(head)
    data = stream.read(length)
    return (CALLS[call], data) if len(data) == length else None


def write_answer(connection: socket.socket, answer: Answer) -> None:
    """Raises OSError when the front has closed the socket."""
    lengths = len(answer.data), len(answer.neighbors)
    head = _ANSWER.pack(answer.outcome, *answer.seconds, *lengths)
    connection.sendall(head + answer.data + answer.neighbors)


def write_request(writer: asyncio.StreamWriter, call: Call, data: bytes) -> None:
    writer.write(_REQUEST.pack(CALLS.index(call), len(data)) + data)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer, in the front. Raises WorkerLostError."""
    try:
        outcome, *seconds, length, more = _ANSWER.unpack(await reader.readexactly(_ANSWER.size))
        if length + more > MAX_FRAME_BYTES:
            raise WorkerLostError(f"an answer of {length + more} bytes")
        find, tune, rank = seconds
        data, neighbors = await reader.readexactly(length), await reader.readexactly(more)
        return Answer(Outcome(outcome), data, (find, tune, rank), neighbors=neighbors)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise WorkerLostError("it ended") from error
    except ValueError as error:
        raise WorkerLostError("an answer of no known outcome") from error
