"""A port where the Offload service answers, with the standard health service."""

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self, final

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from common.addresses import join_address
from common.errors import InputError
from common.wire.offload_pb2_grpc import OffloadServicer, add_OffloadServicer_to_server
from common.wire.service import LEAST_PING_SECONDS, MAX_REQUEST_BYTES, SERVICE_NAME
from server.front.doorman import DoorLimits, Doorman
from server.trust.tls import Tls

MAX_METADATA_BYTES: Final = 8 << 10
GRACE_SECONDS: Final = 30.0
# A silent device is asked after so long whether it is still there, and has so long to answer.
KEEPALIVE_SECONDS: Final = 60
KEEPALIVE_ANSWER_SECONDS: Final = 20
# Pings of a device that come sooner than LEAST_PING_SECONDS, before it is disconnected.
MAX_EARLY_PINGS: Final = 2
# Encryption and HTTP/2 settings have to be there by then.
HANDSHAKE_SECONDS: Final = 10
# Without a call for so long a connection is ended; a device opens another when it needs one.
IDLE_SECONDS: Final = 300
# Of one connection at a time; a client that needs more of them waits.
MAX_STREAMS: Final = 32
# Files that a connection takes: its public side, and both ends behind the doorman.
FILES_PER_CONNECTION: Final = 3
OTHER_FILES: Final = 256
# Calls that gRPC has taken and Python has not; above it gRPC cancels, and devices ask again.
MAX_PENDING: Final = 1024


@dataclass(frozen=True)
class Listening:
    """Where and how a server listens.

    tls   None encrypts nothing
    door  connections, and bytes of each address
    """

    host: str = "127.0.0.1"
    tls: Tls | None = None
    door: DoorLimits = field(default_factory=DoorLimits)


@final
class Endpoint:
    """A server that has its port from construction and listens from entry to drain.

    An async context manager, made and used in one event loop. port 0 picks a free one;
    `endpoint.port` says which. Raises InputError when it is taken.

    gates    what calls pass first (server.trust.gate)
    refused  is told why a connection was turned away
    """

    def __init__(
        self,
        service: OffloadServicer,
        *,
        port: int = 0,
        listening: Listening | None = None,
        gates: Sequence[grpc.aio.ServerInterceptor] = (),
        refused: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        listening = listening or Listening()
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(interceptors=gates, options=_OPTIONS)
        add_OffloadServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.host = listening.host
        door = replace(listening.door, connections=_affordable(listening.door.connections))
        self._doorman = Doorman(self.host, port, door, refused)
        self.port = self._doorman.port
        address = f"unix:{self._doorman.path}"
        try:
            if listening.tls is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, listening.tls.credentials())
        except RuntimeError:
            raise InputError(
                f"{self._doorman.path.parent}: no socket can be made here, "
                "set TMPDIR to a folder with a short name"
            ) from None

    @property
    def address(self) -> str:
        return join_address(self.host, self.port)

    async def tell(self, status: HealthCheckResponse.ServingStatus) -> None:
        """What the health service says from now on; a drain has the last word."""
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)

    async def drain(self, grace: float = GRACE_SECONDS) -> None:
        """Take no more calls, let those under way finish within `grace` seconds, and stop."""
        self._doorman.close()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        await self._doorman.end()

    async def __aenter__(self) -> Self:
        await self._server.start()
        await self._doorman.open()
        await self.tell(HealthCheckResponse.SERVING)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.drain()


def _affordable(connections: int) -> int:
    """As many as this process may have files for, which it takes as many of as it is given."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return max(1, min(connections, (most - OTHER_FILES) // FILES_PER_CONNECTION))


_OPTIONS: Final = [
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
    ("grpc.server_handshake_timeout_ms", 1000 * HANDSHAKE_SECONDS),
    ("grpc.max_connection_idle_ms", 1000 * IDLE_SECONDS),
    ("grpc.keepalive_time_ms", 1000 * KEEPALIVE_SECONDS),
    ("grpc.keepalive_timeout_ms", 1000 * KEEPALIVE_ANSWER_SECONDS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000 * LEAST_PING_SECONDS),
    ("grpc.http2.max_ping_strikes", MAX_EARLY_PINGS),
]
