"""A small recommender to serve in tests, and servers that misbehave; also a server process.

    python tests/serving.py FOLDER PORT CHUNK_PAUSE

serves `make_scene(FOLDER)` on PORT, pausing after every chunk, and writes what it is asked for
into FOLDER: `ready`, `offset` of the last FetchModel, `chunks` sent.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self, TypeVar, final

import grpc
import numpy as np
from numpy.typing import NDArray

from client.local_ratings import LocalRatings
from common.model_version import Manifest, decode_version, encode_version, version_digest
from common.ratings import RatingMatrix, RatingScale
from common.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.description import Description
from common.wire.offload_pb2_grpc import OffloadServicer
from server import endpoint
from server.crew import SaturatedError
from server.frames import Answer, Call
from server.gate import Gate
from server.metrics import Metrics
from server.model_store import StoredModel, tables_digest
from server.recommender import Recommender
from server.service import CHUNK_BYTES, OffloadService
from server.serving import describe, eligible_users, make_current, write_version
from server.tally import Tally
from server.versions import Catalog
from server.worker import Answerer

USERS, FAKES, ITEMS, WIDTH = 40, 4, 60, 8
WATCHED = (3, 17)
SCALE = RatingScale(1, 5, 1)
PRESETS = {
    "paper": VicinalSettings(6, 0.0, 5, step_rule="adagrad", learning_rate=0.3),
    "vicinal": VicinalSettings(12, 0.2, 5, min_support=2),
    "crowd": VicinalSettings(USERS + FAKES + 1, 0.2, 5),
}


@dataclass(frozen=True)
class Scene:
    """A recommender that can be served, the bytes of its version, and the users' devices."""

    recommender: Recommender
    data: bytes
    local: LocalRatings

    @property
    def folder(self) -> Path:
        """What service() serves, and a front with workers could."""
        return self.recommender.path.with_suffix(".serving")

    def description(self) -> Description:
        return describe(self.recommender, presets=PRESETS, watched=WATCHED, list_length=10)

    def catalog(self) -> Catalog:
        """The one version, in `folder`."""
        description = self.description()
        write_version(self.folder, self.recommender, description)
        make_current(self.folder, description.version)
        return Catalog(self.folder)

    def tally(self) -> Tally:
        return Tally(users=USERS, eligible=eligible_users(self.recommender, WATCHED))

    def service(self, *, refusals: int = 0) -> OffloadService:
        """The calls, computed by threads of this process: most tests are of something else."""
        description = self.description()
        answers = InProcess(Answerer(self.recommender, description), refusals)
        return OffloadService(self.catalog(), self.tally(), answers, Metrics(description))


@final
class InProcess:
    """What a worker process computes, in a thread; the first `refusals` requests find it full."""

    def __init__(self, answerer: Answerer, refusals: int) -> None:
        self._answerer = answerer
        self._refusals = refusals

    async def ask(self, call: Call, preset: str, request: bytes) -> Answer:
        if self._refusals:
            self._refusals -= 1
            raise SaturatedError(7, 0.15)
        return await asyncio.to_thread(self._answerer.answer, call, request)


T = TypeVar("T")


@final
class Endpoint:
    """server.endpoint.Endpoint in an event loop of its own thread, for tests that have none."""

    def __init__(
        self,
        service: OffloadServicer,
        *,
        port: int = 0,
        listening: endpoint.Listening | None = None,
        gates: Sequence[Gate] = (),
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._endpoint = self._run(self._open(service, port, listening, gates))
        except BaseException:
            self._end()
            raise
        self.port, self.address = self._endpoint.port, self._endpoint.address

    async def _open(
        self,
        service: OffloadServicer,
        port: int,
        listening: endpoint.Listening | None,
        gates: Sequence[Gate],
    ) -> endpoint.Endpoint:
        opened = endpoint.Endpoint(service, port=port, listening=listening, gates=gates)
        return await opened.__aenter__()

    def drain(self, grace: float = 10.0) -> None:
        if not self._loop.is_closed():
            self._run(self._endpoint.drain(grace))
            self._end()

    def _run(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drain()


def make_scene(
    folder: Path, *, items: int = ITEMS, seed: int = 0, like: Scene | None = None
) -> Scene:
    """Random ratings and a random model from a seed; the version's file lies in `folder`.

    like  a scene of the same seed whose version differs in three rows of its table
    """
    rng = np.random.default_rng(seed)
    rated = rng.random((USERS + FAKES, items)) < min(0.3, 20 / items)
    rated[:, -1] = False  # every user has an unrated item to hold out
    rated[:, 5] = True
    users, columns = np.nonzero(rated)
    ratings = RatingMatrix.from_triples(
        users,
        columns,
        rng.integers(0, SCALE.level_count, len(users)),
        user_count=USERS + FAKES,
        item_count=items,
        scale=SCALE,
    )
    user_parameters = {"user_embedding": _table(rng, USERS + FAKES)}
    manifest = Manifest(
        model="mf",
        users=USERS + FAKES,
        items=items,
        width=WIDTH,
        minimum=1.0,
        maximum=5.0,
        step=1.0,
        training_digest="0" * 64,
        user_digest=tables_digest(user_parameters),
    )
    table = _table(rng, items)
    if like is not None:
        table[:3] *= 1.01
    data = encode_version(manifest, {"item_embedding": table})
    path = folder / f"model-{seed}{'' if like is None else '-near'}.safetensors"
    path.write_bytes(data)
    version = decode_version(data, expected_digest=version_digest(data))
    recommender = Recommender(StoredModel(version, user_parameters, path), ratings, USERS)
    held_out = np.array(
        [rng.choice(np.flatnonzero(~rated[user])) for user in range(USERS)], dtype=np.int32
    )
    held_out[0] = -1
    liked = (rng.random(USERS) < 0.5) & (held_out >= 0)
    return Scene(recommender, data, LocalRatings(ratings.rows(np.arange(USERS)), held_out, liked))


def _table(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    return rng.standard_normal((rows, WIDTH), dtype=np.float32) / np.float32(np.sqrt(WIDTH))


Chunks = Iterator[wire.ModelChunk]
Mangle = Callable[[Chunks, int], Chunks]


def as_it_is(chunks: Chunks, _offset: int) -> Chunks:
    return chunks


class Misbehaving(OffloadServicer):
    """A real service behind a real port, some of whose answers are changed on the way.

    describe  changes the description; `mangle` the chunks of a fetch from an offset, and breaks
              the stream when it raises ConnectionError;
    `before` is called before a package or a recommendation is made
    """

    def __init__(
        self,
        service: OffloadService,
        *,
        describe: Callable[[wire.Description], wire.Description] = lambda said: said,
        mangle: Mangle = as_it_is,
        package: Callable[[wire.OffloadPackage], wire.OffloadPackage] = lambda made: made,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._service = service
        self._describe, self._mangle, self._package = describe, mangle, package
        self._before = before
        self.fetches: list[int] = []
        self.reports: list[wire.ReportRequest] = []

    async def Describe(
        self, request: wire.DescribeRequest, context: grpc.aio.ServicerContext
    ) -> wire.Description:
        return self._describe(await self._service.Describe(request, context))

    async def FetchModel(
        self, request: wire.FetchModelRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[wire.ModelChunk]:
        self.fetches.append(request.offset)
        whole = [chunk async for chunk in self._service.FetchModel(request, context)]
        mangled = self._mangle(iter(whole), request.offset)
        try:
            while (chunk := await asyncio.to_thread(next, mangled, None)) is not None:
                yield chunk
        except ConnectionError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def GetPackage(
        self, request: wire.PackageRequest, context: grpc.aio.ServicerContext
    ) -> wire.OffloadPackage:
        await asyncio.to_thread(self._before)
        return self._package(await self._service.GetPackage(request, context))

    async def Recommend(
        self, request: wire.RecommendRequest, context: grpc.aio.ServicerContext
    ) -> wire.Recommendation:
        await asyncio.to_thread(self._before)
        return await self._service.Recommend(request, context)

    async def Report(
        self, request: wire.ReportRequest, context: grpc.aio.ServicerContext
    ) -> wire.ReportReply:
        self.reports.append(request)
        reply = await self._service.Report(request, context)
        if len(self.reports) == 1 and self._lose_first_reply:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the reply was lost")
        return reply

    async def GetTally(
        self, request: wire.TallyRequest, context: grpc.aio.ServicerContext
    ) -> wire.TallyReply:
        return await self._service.GetTally(request, context)

    _lose_first_reply = False

    def lose_first_reply(self) -> None:
        """Count the first report, and let its sender think that nobody heard it."""
        self._lose_first_reply = True


def serve_slowly(folder: Path, port: int, pause: float) -> None:
    """Serve until killed; every chunk waits, so that a fetch can be caught half-way."""

    def mangle(chunks: Chunks, offset: int) -> Chunks:
        (folder / "offset").write_text(str(offset))
        for count, chunk in enumerate(chunks, start=1):
            yield chunk
            (folder / "chunks").write_text(str(count))
            time.sleep(pause)

    service = make_scene(folder, items=LARGE_ITEMS).service()
    with Endpoint(Misbehaving(service, mangle=mangle), port=port) as endpoint:
        ready = folder / "ready.part"
        ready.write_text(str(endpoint.port))
        ready.replace(folder / "ready")
        Event().wait()


# Eight chunks.
LARGE_ITEMS = 8 * CHUNK_BYTES // (4 * WIDTH)


def flipped(chunk: wire.ModelChunk) -> wire.ModelChunk:
    """The chunk with one bit changed in the middle."""
    data = bytearray(chunk.data)
    data[len(data) // 2] ^= 1
    return wire.ModelChunk(offset=chunk.offset, data=bytes(data))


def other_manifest(said: wire.Description) -> wire.Description:
    """The description with a manifest of the same sizes that is not the version's own."""
    manifest = replace(Manifest.from_json(said.manifest), training_digest="f" * 64)
    changed = wire.Description()
    changed.CopyFrom(said)
    changed.manifest = manifest.to_json()
    return changed


if __name__ == "__main__":
    serve_slowly(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
