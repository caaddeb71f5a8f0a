"""The server behind the gateway: what it serves now, and calls to it with the caller's token."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.errors import InputError, VicinalError
from common.wire import offload_pb2 as wire
from common.wire.description import Description, description_from_wire
from common.wire.offload_pb2_grpc import OffloadStub
from common.wire.service import SERVICE_NAME, TOKEN_KEY
from server.gateway.names import Called, NameBook
from server.gateway.problems import AWAY_SECONDS, AWAY_TEXT, Problem, problem_of

# Of calls that answer at once.
ASK_SECONDS: Final = 5.0
REFRESH_SECONDS: Final = 5.0
# Until a server has to be there when the gateway starts.
PATIENCE_SECONDS: Final = 8.0
PAUSE_SECONDS: Final = 0.2
# Versions of before that are told.
MOST_KNOWN: Final = 32

Metadata = Sequence[tuple[str, str]]
Request = Callable[[Description], Message]


@dataclass(frozen=True)
class Served:
    """What is served, and what it is called.

    since  when it was first seen, in seconds since 1970
    """

    description: Description
    called: Called
    since: float


@final
class Upstream:
    """One server; for the use of one event loop.

    channel  to it, made in that loop
    seconds  that a call may take
    """

    def __init__(self, channel: grpc.aio.Channel, book: NameBook, *, seconds: float) -> None:
        self.stub = OffloadStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)
        self._book = book
        self._seconds = seconds
        self._served: Served | None = None
        self._asking = asyncio.Lock()
        self._asked = 0
        self.known: dict[str, float] = {}

    async def first(self) -> Served:
        """Once at the start. Raises VicinalError when there is no server, InputError, Problem."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                served = await self.refresh()
                break
            except Problem as problem:
                if problem.status not in (503, 504) or time.monotonic() > end:
                    raise VicinalError(
                        f"{problem}: start `vicinal serve`, or name another --server"
                    ) from None
                await asyncio.sleep(PAUSE_SECONDS)
        if served.called.problem:
            raise InputError(served.called.problem)
        return served

    async def current(self) -> Served:
        """What was served a moment ago. Raises Problem where nothing is known."""
        return self._served or await self.refresh()

    async def refresh(self) -> Served:
        """Ask what is served; who asks meanwhile gets the same answer. Raises Problem."""
        asked = self._asked
        async with self._asking:
            if self._served is None or asked == self._asked:
                await self._refresh()
                self._asked += 1
            assert self._served is not None
            return self._served

    async def _refresh(self) -> None:
        try:
            message = await self.stub.Describe(wire.DescribeRequest(), timeout=ASK_SECONDS)
            description = description_from_wire(message)
            called = await asyncio.to_thread(self._book.called, description)
        except grpc.aio.AioRpcError as error:
            raise problem_of(error) from None
        except InputError as error:
            raise Problem(503, "UNAVAILABLE", str(error), pause=AWAY_SECONDS) from None
        since = self.known.setdefault(description.version, time.time())
        while len(self.known) > MOST_KNOWN:
            del self.known[next(iter(self.known))]
        self._served = Served(description, called, since)

    async def kept_fresh(self) -> None:
        """Ask again and again, until it is canceled."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except Problem:
                # Who asks meanwhile is told by the call itself.
                continue

    async def asked(self, call: str, request: Request, token: str | None) -> Any:
        """A call's reply. Once more when another version is served by now. Raises Problem."""
        metadata: Metadata = () if token is None else ((TOKEN_KEY, token),)
        method = getattr(self.stub, call)
        description = (await self.current()).description
        for again in (False, True):
            try:
                return await method(request(description), timeout=self._seconds, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION or again:
                    raise problem_of(error) from None
            description = (await self.refresh()).description
        raise AssertionError

    async def healthy(self) -> None:
        """Raises Problem unless the server says that it serves."""
        asked = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        try:
            reply = await self._health.Check(asked, timeout=ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise problem_of(error) from None
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            raise Problem(503, "NOT_SERVING", AWAY_TEXT, pause=AWAY_SECONDS)

    async def asks_for_tokens(self) -> bool:
        """Whether a caller without a token is turned away. Raises Problem."""
        description = (await self.current()).description
        request = wire.TallyRequest(
            version=description.version, preset=next(iter(description.presets))
        )
        try:
            await self.stub.GetTally(request, timeout=ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return True
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise problem_of(error) from None
        return False
