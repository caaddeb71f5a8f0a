"""Servers in tests, also ones that misbehave; and a server process.

    python -m tests.support.serving FOLDER PORT CHUNK_PAUSE

serves `make_scene(FOLDER)` on PORT, pausing after every chunk, and writes what it is asked for
into FOLDER: `ready`, `offset` of the last FetchModel, `chunks` sent.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self, TypeVar, final

import grpc

from common.ranking import Counts
from common.versions.version import Manifest
from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadServicer
from server.front import endpoint
from server.front.service import OffloadService
from tests.support.scenes import (
    LARGE_ITEMS,
    PRESETS,
    SECRET,
    USERS,
    WATCHED,
    WIDTH,
    InProcess,
    Scene,
    make_scene,
)

__all__ = [
    "LARGE_ITEMS",
    "PRESETS",
    "SECRET",
    "USERS",
    "WATCHED",
    "WIDTH",
    "Chunks",
    "Endpoint",
    "InProcess",
    "Mangle",
    "Misbehaving",
    "Scene",
    "flipped",
    "make_scene",
    "other_manifest",
]

T = TypeVar("T")


@final
class Endpoint:
    """The server's endpoint in an event loop of its own thread, for tests that have none."""

    def __init__(
        self,
        service: OffloadServicer,
        *,
        port: int = 0,
        listening: endpoint.Listening | None = None,
        gates: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        self._service = service
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
        gates: Sequence[grpc.aio.ServerInterceptor],
    ) -> endpoint.Endpoint:
        opened = endpoint.Endpoint(service, port=port, listening=listening, gates=gates)
        return await opened.__aenter__()

    def counted(self, preset: str, version: str | None = None) -> tuple[int, Counts]:
        """Reports counted so far, and their sum: GetTally tells whole hundreds only."""
        inner = self._service
        service = inner._service if isinstance(inner, Misbehaving) else inner
        assert isinstance(service, OffloadService)
        current = service.versions.current.description.version
        return service.tally.total(version or current, preset)

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

    def __exit__(self, *_error: object) -> None:
        self.drain()


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

    async def Explain(
        self, request: wire.ExplainRequest, context: grpc.aio.ServicerContext
    ) -> wire.Explanation:
        return await self._service.Explain(request, context)

    async def GetReceipts(
        self, request: wire.ReceiptsRequest, context: grpc.aio.ServicerContext
    ) -> wire.ReceiptsReply:
        return await self._service.GetReceipts(request, context)

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

    scene = make_scene(folder, items=LARGE_ITEMS)
    service = scene.service(tally=scene.tally(folder / "tally.sqlite"))
    with Endpoint(Misbehaving(service, mangle=mangle), port=port) as endpoint:
        ready = folder / "ready.part"
        ready.write_text(str(endpoint.port))
        ready.replace(folder / "ready")
        Event().wait()


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
