"""Connections of uvicorn, with what it lacks: an end to heads that never end, and who is there."""

import asyncio
import json
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.gateway.problems import Problem
from server.gateway.shield import HEADERS
from server.trust.peers import peer_of

# Until the head of a request has to be there.
HEAD_SECONDS: Final = 10.0
UNREADABLE: Final = Problem(
    400, "UNREADABLE", "this is no request of HTTP/1.1, or its head is too large"
)


class Connection(H11Protocol):
    """One connection through the doorman (server.front.doorman)."""

    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        opened = transport.get_extra_info("socket")
        name = "" if opened is None else opened.getpeername()
        if isinstance(name, bytes):
            name = name.decode(errors="replace")
        self.client = (peer_of(f"unix:{name}"), 0)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle = cast(Any, self.cycle)
        if cycle is None or cycle.response_complete:
            self._await_head()
        else:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        self._stop_waiting()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """In our own words; whatever is wrong in bytes ends the connection."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = f"{json.dumps(UNREADABLE.content)}\n".encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *HEADERS,
        ]
        for event in (
            h11.Response(status_code=UNREADABLE.status, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_head(self) -> None:
        """Of a request that has begun, or of the first one; it is not put off by more bytes."""
        if self._watch is None:
            self._watch = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _too_slow(self) -> None:
        self._watch = None
        self.transport.abort()
