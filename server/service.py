"""The calls of proto/vicinal/v1/offload.proto over a Recommender; transport and nothing else.

What a caller got wrong becomes a status with one line; what went wrong here becomes INTERNAL
with a constant text, because the details are for the log and not for strangers.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn, final

import grpc
import numpy as np

from common.errors import InputError
from common.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.description import Description, description_to_wire
from common.wire.messages import counts_from_wire, counts_to_wire, neighborhood_to_wire
from common.wire.offload_pb2_grpc import OffloadServicer
from server.recommender import Recommender
from server.tally import Tally

CHUNK_BYTES: Final = 512 << 10
INTERNAL_TEXT: Final = "internal error: the server's log says more"

_log = logging.getLogger(__name__)


class _RefusedError(Exception):
    """Ends a call with a status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def _statuses(context: grpc.ServicerContext) -> Iterator[None]:
    """Turn what a handler raises into a status; do nothing for a caller who has given up."""
    try:
        # A call waits for a free thread, and its deadline may have passed by then.
        if not context.is_active():
            raise _RefusedError(grpc.StatusCode.CANCELLED, "the caller has left")
        yield
    except _RefusedError as refusal:
        context.abort(refusal.code, str(refusal))
    except InputError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except Exception:  # noqa: BLE001 - strangers get a constant text, the log gets the rest
        _log.exception("a call failed")
        context.abort(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)


@final
class OffloadService(OffloadServicer):
    """One model version for many devices; safe to use from many threads.

    presets      what a call may name
    watched      items whose hit ratio is measured; `list_length` is K
    """

    def __init__(
        self,
        recommender: Recommender,
        *,
        presets: Mapping[str, VicinalSettings],
        watched: tuple[int, ...],
        list_length: int,
    ) -> None:
        self._recommender = recommender
        recommender.version.served.warm()
        self.description = Description(
            recommender.version.digest,
            recommender.path.stat().st_size,
            recommender.version.manifest,
            recommender.ratings_digest,
            recommender.user_count,
            list_length,
            watched,
            presets,
        )
        self._description = description_to_wire(self.description)
        self.tally = Tally(
            users=recommender.user_count, eligible=eligible_users(recommender, watched)
        )

    def Describe(
        self, request: wire.DescribeRequest, context: grpc.ServicerContext
    ) -> wire.Description:
        with _statuses(context):
            return self._description

    def FetchModel(
        self, request: wire.FetchModelRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.ModelChunk]:
        with _statuses(context):
            if request.version != self.description.version:
                self._refuse_version(grpc.StatusCode.NOT_FOUND)
            if request.offset > self.description.version_bytes:
                raise _RefusedError(
                    grpc.StatusCode.OUT_OF_RANGE,
                    f"offset {request.offset}: the version has "
                    f"{self.description.version_bytes} bytes",
                )
            with self._recommender.path.open("rb") as opened:
                opened.seek(request.offset)
                offset = request.offset
                while data := opened.read(CHUNK_BYTES):
                    yield wire.ModelChunk(offset=offset, data=data)
                    offset += len(data)

    def GetPackage(
        self, request: wire.PackageRequest, context: grpc.ServicerContext
    ) -> wire.OffloadPackage:
        with _statuses(context):
            settings = self._settings(request)
            neighborhood = self._recommender.neighborhood(request.user, settings)
            return wire.OffloadPackage(
                version=request.version, neighborhood=neighborhood_to_wire(neighborhood)
            )

    def Recommend(
        self, request: wire.RecommendRequest, context: grpc.ServicerContext
    ) -> wire.Recommendation:
        with _statuses(context):
            settings = self._settings(request)
            length = self.description.list_length
            items = self._recommender.recommend(request.user, settings, length)
            return wire.Recommendation(version=request.version, items=items.tolist())

    def Report(
        self, request: wire.ReportRequest, context: grpc.ServicerContext
    ) -> wire.ReportReply:
        with _statuses(context):
            self._check(request)
            counts = counts_from_wire(request.counts)
            counted = self.tally.add(request.version, request.preset, request.key, counts)
            return wire.ReportReply(counted=counted)

    def GetTally(
        self, request: wire.TallyRequest, context: grpc.ServicerContext
    ) -> wire.TallyReply:
        with _statuses(context):
            self._check(request)
            reports, counts = self.tally.total(request.version, request.preset)
            return wire.TallyReply(reports=reports, counts=counts_to_wire(counts))

    def _settings(self, request: wire.PackageRequest | wire.RecommendRequest) -> VicinalSettings:
        settings = self._check(request)
        users = self._recommender.user_count
        if request.user >= users:
            raise _RefusedError(
                grpc.StatusCode.NOT_FOUND, f"unknown user {request.user}: choose 0–{users - 1}"
            )
        return settings

    def _check(
        self,
        request: wire.PackageRequest
        | wire.RecommendRequest
        | wire.ReportRequest
        | wire.TallyRequest,
    ) -> VicinalSettings:
        if request.version != self.description.version:
            self._refuse_version(grpc.StatusCode.FAILED_PRECONDITION)
        return self.description.preset(request.preset)

    def _refuse_version(self, code: grpc.StatusCode) -> NoReturn:
        raise _RefusedError(code, f"another version is served: {self.description.version}")


def eligible_users(recommender: Recommender, watched: tuple[int, ...]) -> tuple[int, ...]:
    """Per watched item, the real users who have not rated it."""
    real = recommender.ratings.rows(np.arange(recommender.user_count))
    raters = real.item_counts()
    return tuple(recommender.user_count - int(raters[item]) for item in watched)
