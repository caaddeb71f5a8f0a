"""One worker process of a server: reads requests from a socket, computes, answers.

    python -m server.worker FOLDER DESCRIPTOR

FOLDER is a deployment with the description beside it (server.serving), DESCRIPTOR the number of
an open socket to the front. It ends when that socket does.
"""

import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final, final

from common.errors import InputError
from common.settings import VicinalSettings
from common.threads import limit_threads
from common.wire import offload_pb2 as wire
from common.wire.description import Description
from common.wire.messages import neighborhood_to_wire
from server.frames import READY, Answer, Call, Outcome, read_request, write_answer
from server.recommender import Recommender
from server.serving import read_serving

NICENESS: Final = 5

_log = logging.getLogger(__name__)


@final
class Answerer:
    """Answers the calls that take arithmetic; bytes in, bytes out."""

    def __init__(self, recommender: Recommender, description: Description) -> None:
        recommender.version.served.warm()
        self._recommender = recommender
        self._description = description

    def answer(self, call: Call, request: bytes) -> Answer:
        """Never raises for a request that can be parsed: what went wrong is an outcome."""
        marks = Marks()
        try:
            data = self._package(request) if call == "GetPackage" else self._ranked(request, marks)
        except InputError as error:
            return Answer(Outcome.REFUSED, str(error).encode())
        except Exception:  # noqa: BLE001 - strangers get a constant text, the log gets the rest
            _log.exception("a call failed")
            return Answer(Outcome.FAILED)
        if call == "GetPackage":
            marks("neighbors")
        return Answer(Outcome.ANSWERED, data, marks.seconds)

    def _package(self, data: bytes) -> bytes:
        request = wire.PackageRequest.FromString(data)
        neighborhood = self._recommender.neighborhood(request.user, self._settings(request.preset))
        return wire.OffloadPackage(
            version=request.version, neighborhood=neighborhood_to_wire(neighborhood)
        ).SerializeToString()

    def _ranked(self, data: bytes, marks: "Marks") -> bytes:
        request = wire.RecommendRequest.FromString(data)
        items = self._recommender.recommend(
            request.user,
            self._settings(request.preset),
            self._description.list_length,
            mark=marks,
        )
        return wire.Recommendation(
            version=request.version, items=items.tolist()
        ).SerializeToString()

    def _settings(self, preset: str) -> VicinalSettings:
        return self._description.preset(preset)


@final
class Marks:
    """A watch that is told when a stage has ended."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._seconds = {"neighbors": 0.0, "tune": 0.0, "rank": 0.0}

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self._seconds[stage] = now - self._last
        self._last = now

    @property
    def seconds(self) -> tuple[float, float, float]:
        return self._seconds["neighbors"], self._seconds["tune"], self._seconds["rank"]


def work(connection: socket.socket, answerer: Answerer) -> None:
    """Answer until the front closes its end."""
    try:
        write_answer(connection, READY)
        with connection.makefile("rb") as stream:
            while (asked := read_request(stream)) is not None:
                write_answer(connection, answerer.answer(*asked))
    except OSError:
        return


def main(folder: Path, descriptor: int) -> None:
    # Ctrl-C and a supervisor's SIGTERM reach all processes; a worker is ended by the front, when
    # it has nothing left to ask.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # The front hands out work and refuses what would wait too long: when there are too few cores
    # for all, it goes first.
    os.nice(NICENESS)
    limit_threads()
    with socket.socket(fileno=descriptor) as connection:
        work(connection, Answerer(*read_serving(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
