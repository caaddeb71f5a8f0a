"""What passes between the front of a server and its worker processes, over a socket pair.

    request   call (1 byte), length (4), the request's protobuf bytes
    answer    outcome (1), seconds of neighbors, tune, rank (3 × 8), length (4), bytes

One request at a time: an answer belongs to the request before it. A worker's first answer,
to no request, says that it is ready; its end is the end of the socket.
"""

import asyncio
import socket
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import BinaryIO, Final, Literal

Call = Literal["Recommend", "GetPackage"]
CALLS: Final[tuple[Call, ...]] = ("Recommend", "GetPackage")
STAGES: Final = ("neighbors", "tune", "rank")

_REQUEST: Final = Struct("<BI")
_ANSWER: Final = Struct("<B3dI")
# The largest package that a device takes, and room beside it: more is a worker gone wrong.
MAX_ANSWER_BYTES: Final = 65 << 20


class Outcome(IntEnum):
    """What an answer's bytes are: a reply message, the line of an InputError, or nothing."""

    ANSWERED = 0
    REFUSED = 1
    FAILED = 2


@dataclass(frozen=True)
class Answer:
    """What a worker made of a request.

    seconds  by stage, of STAGES; 0 for a stage that the call has not
    queued   seconds that the request waited for a worker
    """

    outcome: Outcome
    data: bytes = b""
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    queued: float = 0.0


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
    head = _ANSWER.pack(answer.outcome, *answer.seconds, len(answer.data))
    connection.sendall(head + answer.data)


def write_request(writer: asyncio.StreamWriter, call: Call, data: bytes) -> None:
    writer.write(_REQUEST.pack(CALLS.index(call), len(data)) + data)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer, in the front. Raises WorkerLostError."""
    try:
        outcome, *seconds, length = _ANSWER.unpack(await reader.readexactly(_ANSWER.size))
        if length > MAX_ANSWER_BYTES:
            raise WorkerLostError(f"an answer of {length} bytes")
        neighbors, tune, rank = seconds
        return Answer(Outcome(outcome), await reader.readexactly(length), (neighbors, tune, rank))
    except (asyncio.IncompleteReadError, OSError) as error:
        raise WorkerLostError("it ended") from error
