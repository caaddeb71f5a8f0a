"""The calls of proto/vicinal/v1/offload.proto; transport and nothing else.

What takes arithmetic is asked of others, as bytes. What a caller got wrong becomes a status with
one line; what went wrong here becomes INTERNAL with a constant text, because the details are for
the log and not for strangers.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NoReturn, final

import grpc

from common.errors import InputError
from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadServicer
from common.wire.service import BUDGET_REFUSAL, pushback
from server.metrics import Metrics
from server.reports.report import ReportRefusedError, check_size, check_users, checked_report
from server.reports.sums import SHARDS, sums_to_wire
from server.reports.tally import Tally, TallyError
from server.trust.budgets import BudgetAwayError, BudgetSpentError
from server.trust.gate import ALLOWED_USERS
from server.trust.receipts import Receipts
from server.versions.catalog import Catalog, Served, VersionGoneError
from server.workers.crew import SaturatedError
from server.workers.frames import Call, Status, WorkerLostError, Workers

# A reader who stalls holds several of them in memory (docs/reliability.md).
CHUNK_BYTES: Final = 64 << 10
BOOK_TEXT: Final = (
    "this server shows nobody's neighbors: devices answer from the book of its version"
)
INTERNAL_TEXT: Final = "internal error: the server's log says more"
TALLY_TEXT: Final = "reports cannot be counted now, keep them: the server's log says more"

_log = logging.getLogger(__name__)

Metadata = tuple[tuple[str, str], ...]


class _RefusedError(Exception):
    """Ends a call with a status."""

    def __init__(self, code: grpc.StatusCode, text: str, trailing: Metadata = ()) -> None:
        super().__init__(text)
        self.code = code
        self.trailing = trailing


@final
class OffloadService(OffloadServicer):
    """The versions of a catalog for many devices; for the use of one event loop.

    A request is answered for the version that it names, or refused with the current one's name.

    receipts  of answers; without them of a key that is forgotten when this ends
    """

    def __init__(
        self,
        versions: Catalog,
        tally: Tally,
        workers: Workers,
        metrics: Metrics,
        receipts: Receipts | None = None,
    ) -> None:
        self.tally = tally
        self.receipts = receipts or Receipts(clock=tally.now)
        self.versions = versions
        self._workers = workers
        self._metrics = metrics

    async def Describe(
        self, request: wire.DescribeRequest, context: grpc.aio.ServicerContext
    ) -> wire.Description:
        async with self._statuses("Describe", context):
            message = await self.versions.describe(request.encoding, request.held)
            self._metrics.sent("Describe", message.ByteSize())
            return message

    async def FetchModel(
        self, request: wire.FetchModelRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[wire.ModelChunk]:
        async with self._statuses("FetchModel", context):
            try:
                blob = self.versions.blob(request.version, request.digest)
            except VersionGoneError:
                self._refuse_version(grpc.StatusCode.NOT_FOUND)
            if request.offset > blob.size:
                raise _RefusedError(
                    grpc.StatusCode.OUT_OF_RANGE,
                    f"offset {request.offset}: there are {blob.size} bytes",
                )
            book = self.versions.find(request.version).description.book
            # Books are counted by themselves; they are small beside models.
            what = "FetchBook" if book and request.digest == book.digest else "FetchModel"
            with blob.path.open("rb") as opened:
                opened.seek(request.offset)
                offset = request.offset
                while data := await asyncio.to_thread(opened.read, CHUNK_BYTES):
                    self._metrics.sent(what, len(data))
                    yield wire.ModelChunk(offset=offset, data=data)
                    offset += len(data)

    async def GetPackage(
        self, request: wire.PackageRequest, context: grpc.aio.ServicerContext
    ) -> wire.OffloadPackage:
        async with self._statuses("GetPackage", context):
            package = wire.OffloadPackage.FromString(await self._ask("GetPackage", request))
            package.receipt = self._receipt(request)
            return package

    async def Recommend(
        self, request: wire.RecommendRequest, context: grpc.aio.ServicerContext
    ) -> wire.Recommendation:
        async with self._statuses("Recommend", context):
            answer = wire.Recommendation.FromString(await self._ask("Recommend", request))
            answer.receipt = self._receipt(request)
            return answer

    async def Explain(
        self, request: wire.ExplainRequest, context: grpc.aio.ServicerContext
    ) -> wire.Explanation:
        async with self._statuses("Explain", context):
            return wire.Explanation.FromString(await self._ask("Explain", request))

    async def GetReceipts(
        self, request: wire.ReceiptsRequest, context: grpc.aio.ServicerContext
    ) -> wire.ReceiptsReply:
        async with self._statuses("GetReceipts", context):
            served = self._checked(request)
            if served.description.book is None:
                raise InputError("this server's answers bring their receipts with them")
            check_users(request.users)
            if any(user >= served.users for user in request.users):
                raise _RefusedError(grpc.StatusCode.NOT_FOUND, f"choose users 0–{served.users - 1}")
            about = (request.version, request.preset)
            reply = wire.ReceiptsReply(
                receipts=[self.receipts.issue(*about, user) for user in request.users]
            )
            self._metrics.sent("GetReceipts", reply.ByteSize())
            return reply

    async def Report(
        self, request: wire.ReportRequest, context: grpc.aio.ServicerContext
    ) -> wire.ReportReply:
        async with self._statuses("Report", context):
            try:
                return wire.ReportReply(counted=await self._counted(request))
            except ReportRefusedError as error:
                self._metrics.report_refused(error.reason)
                raise
            except TallyError:
                # The tally has said it in the log, once and not for each report.
                self._metrics.report_refused("disk")
                raise _RefusedError(grpc.StatusCode.INTERNAL, TALLY_TEXT) from None

    async def GetTally(
        self, request: wire.TallyRequest, context: grpc.aio.ServicerContext
    ) -> wire.TallyReply:
        async with self._statuses("GetTally", context):
            self._checked(request)
            sums = self.tally.submit_published(request.version, request.preset)
            try:
                return sums_to_wire(await asyncio.wrap_future(sums))
            except TallyError:
                raise _RefusedError(grpc.StatusCode.INTERNAL, INTERNAL_TEXT) from None

    def _receipt(self, request: wire.PackageRequest | wire.RecommendRequest) -> bytes:
        return self.receipts.issue(request.version, request.preset, request.user)

    async def _counted(self, request: wire.ReportRequest) -> bool:
        """Whether a report is new. Raises ReportRefusedError, TallyError, _RefusedError."""
        await self._check_countable(request)
        check_size(request)
        about, allowed = (request.version, request.preset), ALLOWED_USERS.get()
        fresh = self.receipts.verified(request.receipts, *about)
        stale = self.receipts.verified(request.stale_receipts, *about)
        # Whoever has a token is one device; without tokens the user of its first answer is.
        least = min(receipt.user for receipt in (*fresh, *stale))
        whose = f"{allowed}" if allowed is not None else f"user {least}"
        shard = self.receipts.shard(whose, SHARDS)
        report = checked_report(request, fresh, stale, allowed=allowed, shard=shard)
        counted = await asyncio.wrap_future(self.tally.submit(report))
        if counted:
            self._metrics.reported(report.counts)
        return counted

    async def _check_countable(self, request: wire.ReportRequest) -> None:
        """A version that is served, or one that was: its sum is in the tally.

        Without the second, reports that devices owe would be lost when the server is started
        again, which takes it back to its first version.
        """
        try:
            self.versions.find(request.version)
        except VersionGoneError:
            total = self.tally.submit_total(request.version, request.preset)
            reports, _ = await asyncio.wrap_future(total)
            if not reports:
                self._refuse_version(grpc.StatusCode.FAILED_PRECONDITION)
        else:
            self._checked(request)

    async def _ask(
        self,
        call: Call,
        request: wire.PackageRequest | wire.RecommendRequest | wire.ExplainRequest,
    ) -> bytes:
        """The bytes of a reply; what cannot be answered is refused before it waits."""
        served = self._checked(request)
        if served.description.book is not None:
            self._metrics.refused("book")
            raise _RefusedError(grpc.StatusCode.PERMISSION_DENIED, BOOK_TEXT)
        users = served.users
        if request.user >= users:
            if request.user < self.versions.current.users:
                # Who came after that version is answered by the current one.
                self._refuse_version(grpc.StatusCode.FAILED_PRECONDITION)
            raise _RefusedError(
                grpc.StatusCode.NOT_FOUND, f"unknown user {request.user}: choose 0–{users - 1}"
            )
        try:
            result = await self._workers.ask(call, request.preset, request.SerializeToString())
        except SaturatedError as full:
            self._metrics.rejected(call)
            pause = pushback(full.retry_seconds)
            raise _RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"saturated, {full.waiting} requests wait: try again in {pause[1]} ms",
                (pause,),
            ) from None
        except BudgetSpentError as spent:
            self._metrics.refused("budget")
            raise _RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, str(spent), (BUDGET_REFUSAL,)
            ) from None
        except BudgetAwayError:
            self._metrics.refused("budget_away")
            raise _RefusedError(
                grpc.StatusCode.UNAVAILABLE, "what was shown today is not known now: try again"
            ) from None
        except WorkerLostError:
            raise _RefusedError(
                grpc.StatusCode.UNAVAILABLE, "the process that worked on this ended: try again"
            ) from None
        if result.status is Status.REFUSED:
            raise InputError(result.data.decode())
        if result.status is Status.GONE:
            self._refuse_version(grpc.StatusCode.FAILED_PRECONDITION)
        if result.status is Status.FAILED:
            raise _RefusedError(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
        self._metrics.answered(call, result)
        self._metrics.sent(call, len(result.data))
        return result.data

    def _checked(
        self,
        request: wire.PackageRequest
        | wire.RecommendRequest
        | wire.ExplainRequest
        | wire.ReceiptsRequest
        | wire.ReportRequest
        | wire.TallyRequest,
    ) -> Served:
        """The version that a request names, which has the preset that it names."""
        try:
            served = self.versions.find(request.version)
        except VersionGoneError:
            self._refuse_version(grpc.StatusCode.FAILED_PRECONDITION)
        served.description.preset(request.preset)
        return served

    def _refuse_version(self, code: grpc.StatusCode) -> NoReturn:
        current = self.versions.current.description.version
        raise _RefusedError(code, f"another version is served: {current}") from None

    @asynccontextmanager
    async def _statuses(self, call: str, context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
        """Turn what a handler raises into a status, and count how the call ended."""
        begun = time.perf_counter()
        refusal: _RefusedError | None = None
        status = grpc.StatusCode.OK
        try:
            yield
        except _RefusedError as error:
            refusal = error
        except InputError as error:
            refusal = _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Exception:  # noqa: BLE001 - strangers get a constant text, the log gets the rest
            _log.exception("a call failed")
            refusal = _RefusedError(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
        except BaseException:
            # The caller has left, or its deadline has passed.
            status = grpc.StatusCode.CANCELLED
            raise
        finally:
            status = status if refusal is None else refusal.code
            self._metrics.ended(call, status.name, time.perf_counter() - begun)
        if refusal is not None:
            await context.abort(refusal.code, str(refusal), refusal.trailing)
