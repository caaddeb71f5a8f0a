"""A port where the Offload service answers, with the standard health service."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, final

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from common.addresses import join_address
from common.errors import InputError
from common.wire.offload_pb2_grpc import OffloadServicer, add_OffloadServicer_to_server
from common.wire.service import LEAST_PING_SECONDS, MAX_REQUEST_BYTES, SERVICE_NAME
from server.trust.tls import Tls

MAX_METADATA_BYTES: Final = 8 << 10
GRACE_SECONDS: Final = 10.0
# A silent device is asked after so long whether it is still there, and has so long to answer.
KEEPALIVE_SECONDS: Final = 60
KEEPALIVE_ANSWER_SECONDS: Final = 20
# Pings of a device that come sooner than LEAST_PING_SECONDS, before it is disconnected.
MAX_EARLY_PINGS: Final = 2


@dataclass(frozen=True)
class Listening:
    """Where and how a server listens.

    tls          None encrypts nothing
    calls        that are under way at most, in all connections; more are refused
    connections  that are open at most
    """

    host: str = "127.0.0.1"
    tls: Tls | None = None
    calls: int = 4096
    connections: int = 4096


@final
class Endpoint:
    """A server that has its port from construction and listens from entry to drain.

    An async context manager, made and used in one event loop. port 0 picks a free one;
    `endpoint.port` says which. Raises InputError when it is taken.

    gates  what calls pass first (server.trust.gate)
    """

    def __init__(
        self,
        service: OffloadServicer,
        *,
        port: int = 0,
        listening: Listening | None = None,
        gates: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        listening = listening or Listening()
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=gates,
            options=_options(listening),
            maximum_concurrent_rpcs=listening.calls,
        )
        add_OffloadServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.host = listening.host
        try:
            self.port: int = self._open(join_address(self.host, port), listening.tls)
        except RuntimeError:
            raise InputError(
                f"port {port} on {self.host} is in use or not allowed: "
                "choose another --port, or 0 for any free one"
            ) from None

    def _open(self, address: str, tls: Tls | None) -> int:
        if tls is None:
            port: int = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, tls.credentials())
        return port

    @property
    def address(self) -> str:
        return join_address(self.host, self.port)

    async def tell(self, status: HealthCheckResponse.ServingStatus) -> None:
        """What the health service says from now on; a drain has the last word."""
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)

    async def drain(self, grace: float = GRACE_SECONDS) -> None:
        """Take no more calls, let those under way finish within `grace` seconds, and stop."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    async def __aenter__(self) -> Self:
        await self._server.start()
        await self.tell(HealthCheckResponse.SERVING)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.drain()


def _options(listening: Listening) -> list[tuple[str, int]]:
    return [
        # Linux would let two servers share a port and split the devices between them.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", listening.calls),
        # gRPC would cancel what a busy process has not taken over yet; it is to be refused instead.
        ("grpc.server.max_pending_requests", listening.calls),
        ("grpc.server.max_pending_requests_hard_limit", listening.calls),
        ("grpc.max_allowed_incoming_connections", listening.connections),
        ("grpc.keepalive_time_ms", 1000 * KEEPALIVE_SECONDS),
        ("grpc.keepalive_timeout_ms", 1000 * KEEPALIVE_ANSWER_SECONDS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000 * LEAST_PING_SECONDS),
        ("grpc.http2.max_ping_strikes", MAX_EARLY_PINGS),
    ]
