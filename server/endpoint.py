"""A port on loopback where the Offload service answers, with the standard health service."""

from types import TracebackType
from typing import Final, Self, final

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from common.errors import InputError
from common.wire.offload_pb2 import DESCRIPTOR
from common.wire.offload_pb2_grpc import OffloadServicer, add_OffloadServicer_to_server

SERVICE_NAME: Final = DESCRIPTOR.services_by_name["Offload"].full_name
# Requests are small: the largest is a report, a few bytes per watched item.
MAX_REQUEST_BYTES: Final = 1 << 20
GRACE_SECONDS: Final = 10.0


@final
class Endpoint:
    """A server that has its port from construction and listens from entry to drain.

    An async context manager, made and used in one event loop. port 0 picks a free one;
    `endpoint.port` says which. Raises InputError when it is taken.
    """

    def __init__(self, service: OffloadServicer, *, port: int = 0) -> None:
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(
            options=[
                # Linux would let two servers share a port and split the devices between them.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
            ],
        )
        add_OffloadServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        try:
            self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError:
            raise InputError(
                f"port {port} on 127.0.0.1 is in use or not allowed: "
                "choose another --port, or 0 for any free one"
            ) from None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def drain(self, grace: float = GRACE_SECONDS) -> None:
        """Take no more calls, let those under way finish within `grace` seconds, and stop."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    async def __aenter__(self) -> Self:
        await self._server.start()
        for name in ("", SERVICE_NAME):
            await self._health.set(name, HealthCheckResponse.SERVING)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.drain()
