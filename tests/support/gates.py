"""Gates before a served scene, and calls through them."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadStub
from server.metrics import Metrics
from server.trust.gate import Gate
from server.trust.limits import RateLimit
from server.trust.places import CallLimits
from server.trust.receipts import Receipts
from server.trust.tokens import TokenKeys
from tests.support.receipts import KEY, report_request
from tests.support.serving import USERS, Endpoint, Scene


def make_gate(
    scene: Scene,
    keys: TokenKeys | None = None,
    rate: RateLimit | None = None,
    *,
    seconds: float = 60.0,
    calls: CallLimits | None = None,
    metrics: Metrics | None = None,
) -> Gate:
    return Gate(
        metrics or Metrics(scene.description()),
        users=USERS,
        calls=calls or CallLimits.of(4096),
        keys=keys,
        rate=rate,
        call_seconds=seconds,
        stream_seconds=seconds,
    )


@contextmanager
def stub_of(scene: Scene, gate: Gate) -> Iterator[Any]:
    with (
        Endpoint(scene.service(), gates=[gate]) as endpoint,
        grpc.insecure_channel(endpoint.address) as channel,
    ):
        yield OffloadStub(channel)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def requests(scene: Scene, user: int) -> dict[str, Any]:
    """One of each call that needs a token."""
    version = scene.description().version
    receipts = Receipts(KEY)
    return {
        "GetPackage": wire.PackageRequest(version=version, user=user, preset="paper"),
        "Explain": wire.ExplainRequest(version=version, user=user, preset="paper", items=[1]),
        "Recommend": wire.RecommendRequest(version=version, user=user, preset="paper"),
        "Report": report_request(receipts, version, "paper", secrets.token_hex(8), [user]),
    }


def status(stub: Any, call: str, request: object, **how: Any) -> tuple[grpc.StatusCode, str]:
    try:
        getattr(stub, call)(request, timeout=20, **how)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""
