"""One worker process of a server: reads requests from a socket, computes, answers.

    python -m server.workers.worker FOLDER DESCRIPTOR

FOLDER is what the front serves (server.versions.folder), DESCRIPTOR the number of an open socket to
it. A request names its version, which is mapped when it is first asked for. The worker ends when
the socket does.
"""

import logging
import os
import signal
import socket
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final, Protocol, final

import numpy as np

from common.errors import InputError
from common.threads import limit_threads
from common.versions.version import is_digest
from common.vicinal.settings import VicinalSettings
from common.vicinal.slim import check_slim, slim_model
from common.vicinal.tuning import tuned_scores
from common.wire import offload_pb2 as wire
from common.wire.description import Description
from common.wire.messages import neighborhood_to_wire, open_items, own_to_wire
from common.wire.sealing import OwnRow, device_key
from common.wire.slim import slim_to_wire
from server.recommending.reasons import MOST_ITEMS, explained
from server.recommending.recommender import Recommender, Tune
from server.versions.deployment import deployed_secret
from server.versions.folder import current_version, edition_stamp, read_serving
from server.workers.frames import (
    COMPILED,
    READY,
    Call,
    Status,
    WorkerResult,
    read_request,
    write_result,
)

NICENESS: Final = 10
# Versions that a worker has mapped at once; the least recently asked for leave.
MAX_MAPPED: Final = 3

_log = logging.getLogger(__name__)

REQUESTS: Final[dict[Call, type[Any]]] = {
    "GetPackage": wire.PackageRequest,
    "Recommend": wire.RecommendRequest,
    "Explain": wire.ExplainRequest,
}

# What edition_stamp gives.
Stamp = tuple[int, int] | None


class Handler(Protocol):
    """Computes the calls that need the model; a serialized request in, a result out."""

    def answer(self, call: Call, request: bytes) -> WorkerResult:
        """Never raises for a request that can be parsed: what went wrong is a status."""


@final
class FolderHandler:
    """Handles requests for every version of a serving folder; the current one is mapped at once.

    tune  the fine-tune: numpy's, as on devices, or compiled (server.recommending.compiled)

    Raises InputError when that one is not whole.
    """

    def __init__(self, folder: Path, tune: Tune = tuned_scores) -> None:
        self._folder = folder
        self._tune = tune
        self._mapped: OrderedDict[str, tuple[Stamp, VersionHandler]] = OrderedDict()
        self._of(current_version(folder))

    def answer(self, call: Call, request: bytes) -> WorkerResult:
        """As VersionHandler does, and GONE for a version that is not in the folder any more."""
        version = REQUESTS[call].FromString(request).version
        try:
            handler = self._of(version)
        except InputError:
            return WorkerResult(Status.GONE)
        return handler.answer(call, request)

    def _of(self, version: str) -> "VersionHandler":
        # The front checks it too; a name must not lead out of the folder.
        if not is_digest(version):
            raise InputError("not the name of a version")
        stamp = edition_stamp(self._folder, version)
        mapped = self._mapped.get(version)
        if mapped is None:
            self._mapped[version] = stamp, self._handler(version)
            if len(self._mapped) > MAX_MAPPED:
                self._mapped.popitem(last=False)
        elif mapped[0] != stamp:
            self._mapped[version] = stamp, self._later(version, mapped[1])
        self._mapped.move_to_end(version)
        return self._mapped[version][1]

    def _handler(self, version: str, before: Recommender | None = None) -> "VersionHandler":
        return VersionHandler(
            *read_serving(self._folder, version, before=before),
            deployed_secret(self._folder / version),
            tune=self._tune,
        )

    def _later(self, version: str, handler: "VersionHandler") -> "VersionHandler":
        """Of another edition; the one at hand, where that cannot be read."""
        try:
            return self._handler(version, handler.recommender)
        except InputError:
            _log.exception("new users of version %s are not answered", version[:12])
            return handler


@final
class VersionHandler:
    """Handles requests for one version; whatever a request says, its reply is of that version.

    `secret` is that of which users' devices have a key each (common.wire.sealing), `tune` how
    recommendations are fine-tuned (server.recommending.recommender).
    """

    def __init__(
        self,
        recommender: Recommender,
        description: Description,
        secret: bytes,
        *,
        tune: Tune = tuned_scores,
    ) -> None:
        recommender.version.served.warm()
        for settings in description.presets.values():
            recommender.neighbor_search(settings.neighbors_by)
        self._tune = tune
        self._secret = secret
        self.recommender = recommender
        self._description = description

    def answer(self, call: Call, request: bytes) -> WorkerResult:
        """Never raises for a request that can be parsed: what went wrong is a status."""
        marks = Marks()
        try:
            if call == "GetPackage":
                return self._package(request, marks)
            if call == "Explain":
                return self._explained(request, marks)
            return WorkerResult(Status.ANSWERED, self._ranked(request, marks), marks.seconds)
        except InputError as error:
            return WorkerResult(Status.REFUSED, str(error).encode())
        except Exception:  # noqa: BLE001 - strangers get a constant text, the log gets the rest
            _log.exception("a call failed")
            return WorkerResult(Status.FAILED)

    def _package(self, data: bytes, marks: "Marks") -> WorkerResult:
        request = wire.PackageRequest.FromString(data)
        settings, served = self._settings(request.preset), self.recommender.version.served
        if request.slim:
            check_slim(served.model, settings)
        neighborhood = self.recommender.neighborhood(request.user, settings)
        hidden = self.recommender.hidden(request.user, settings, neighborhood)
        version, own = self._description.version, own_to_wire(neighborhood, hidden)
        package = wire.OffloadPackage(
            version=version, neighborhood=neighborhood_to_wire(neighborhood, hidden)
        )
        if request.slim:
            rows = neighborhood.ratings
            part, seen = slim_model(served, rows), open_items(neighborhood, hidden)
            model, own_rows = slim_to_wire(part, rows, seen, shared=request.shared)
            package.model.CopyFrom(model)
            own.rows.update(own_rows)
        asked = OwnRow(
            self.recommender.ratings.rows([request.user]), device_key(self._secret, request.user)
        )
        package.neighborhood.sealed = asked.seal(own, version)
        neighbors = self._neighbors(request.user, settings)
        marks("neighbors")
        return WorkerResult(
            Status.ANSWERED, package.SerializeToString(), marks.seconds, neighbors=neighbors
        )

    def _neighbors(self, user: int, settings: VicinalSettings) -> bytes:
        """Who is in a neighborhood, for the front; found a moment ago, so that it is cached."""
        nearest = self.recommender.nearest(
            np.array([user]), settings.neighbors, settings.neighbors_by
        )
        return nearest.astype("<u4").tobytes()

    def _explained(self, data: bytes, marks: "Marks") -> WorkerResult:
        request = wire.ExplainRequest.FromString(data)
        settings = self._settings(request.preset)
        if len(request.items) > MOST_ITEMS:
            raise InputError(f"reasons of {len(request.items)} items: ask for 1–{MOST_ITEMS}")
        found = explained(
            self.recommender, request.user, settings, np.array(request.items, dtype=np.int64)
        )
        neighbors = self._neighbors(request.user, settings)
        marks("neighbors")
        reply = wire.Explanation(
            version=self._description.version,
            neighbors=found.neighbors,
            min_support=settings.min_support,
            accounts=found.accounts,
            assumed_fakes=found.assumed_fakes,
            required_raters=found.required_raters,
            form=found.form,
            reasons=[
                wire.Reason(
                    item=each.item,
                    supporters=each.supporters,
                    raters=each.raters,
                    admission=wire.Admission.ValueType(each.admitted),
                    price=each.price,
                )
                for each in found.reasons
            ],
        )
        return WorkerResult(
            Status.ANSWERED, reply.SerializeToString(), marks.seconds, neighbors=neighbors
        )

    def _ranked(self, data: bytes, marks: "Marks") -> bytes:
        request = wire.RecommendRequest.FromString(data)
        items = self.recommender.recommend(
            request.user,
            self._settings(request.preset),
            self._description.list_length,
            tune=self._tune,
            mark=marks,
        )
        return wire.Recommendation(
            version=self._description.version, items=items.tolist()
        ).SerializeToString()

    def _settings(self, preset: str) -> VicinalSettings:
        return self._description.preset(preset)


@final
class Marks:
    """A stopwatch with the seconds of each stage; it is called when a stage has ended."""

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


def work(connection: socket.socket, handler: Handler) -> None:
    """Answer until the front closes its end."""
    try:
        write_result(connection, READY)
        with connection.makefile("rb") as stream:
            while (asked := read_request(stream)) is not None:
                write_result(connection, handler.answer(*asked))
    except OSError:
        return


def main(folder: Path, descriptor: int, *, in_loops: bool) -> None:
    # Ctrl-C and a supervisor's SIGTERM reach all processes; a worker is ended by the front, when
    # it has nothing left to ask.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # The front hands out work and refuses what would wait too long: when there are too few cores
    # for all, it goes first.
    os.nice(NICENESS)
    limit_threads()
    with socket.socket(fileno=descriptor) as connection:
        if not in_loops:
            work(connection, FolderHandler(folder))
            return
        # Loads a compiler, which other workers do without.
        from server.recommending import compiled  # noqa: PLC0415

        compiled.warm()
        work(connection, FolderHandler(folder, compiled.tuned_scores))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), in_loops=sys.argv[3:] == [COMPILED])
