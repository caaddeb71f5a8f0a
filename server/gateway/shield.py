"""What stands before every route: hosts, places, sizes, times, and the headers of every answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, final

from server.gateway.problems import LATE_TEXT, Problem
from server.trust.places import CallLimits, CrowdedError, Places

# A request is a few names.
MAX_BODY_BYTES: Final = 64 << 10
# Of the address and the headers together, also where they come at once.
MAX_HEAD_BYTES: Final = 16 << 10
# Until the body of a request has to be there.
BODY_SECONDS: Final = 10.0
CROWDED_SECONDS: Final = 0.5
CROWDED_TEXTS: Final = {
    "calls": "too many requests at a time",
    "calls_peer": "too many requests at a time from this address",
}
# What a page of ours may load: files of ours, and no text may become markup or a script.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What callers may take.

    calls    requests that are under way
    seconds  that one may take
    hosts    by which the gateway may be called; None: by any. A page of another site that has its
             own name lead here must not read what is open to this machine
    """

    calls: CallLimits
    seconds: float
    hosts: frozenset[str] | None = None


@final
class Shield:
    """An ASGI application around another one."""

    def __init__(self, inner: Application, limits: Limits) -> None:
        self._inner = inner
        self._limits = limits
        self._places = Places(limits.calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._answered(scope, receive, answer.send)
            return
        except Problem as error:
            problem = error
        except TimeoutError:
            problem = Problem(504, "DEADLINE_EXCEEDED", LATE_TEXT)
        except Exception:  # noqa: BLE001 - strangers get a constant text, the log gets the rest
            _log.exception("a request failed")
            problem = Problem(500, "INTERNAL", "internal error: the gateway's log says more")
        if not answer.started:
            response = problem.response()
            # What may still come of the request is not waited for.
            response.headers["Connection"] = "close"
            await response(scope, receive, answer.send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        _check_head(scope)
        self._check_host(scope)
        client = scope["client"]
        try:
            with self._places.taken(client[0] if client else "", None):
                body = await _body(scope, receive)
                await self._inner(scope, _given(body, receive), send)
        except CrowdedError as crowded:
            text = CROWDED_TEXTS[crowded.reason]
            raise Problem(429, "RESOURCE_EXHAUSTED", text, pause=CROWDED_SECONDS) from None

    def _check_host(self, scope: Scope) -> None:
        if self._limits.hosts is None:
            return
        given = [value for name, value in scope["headers"] if name == b"host"]
        host = given[0].decode("latin-1") if len(given) == 1 else ""
        name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
        if name.lower() not in self._limits.hosts:
            raise Problem(421, "MISDIRECTED", "the gateway is not called so")


def _check_head(scope: Scope) -> None:
    """Raises Problem for a head that is too large, or says twice how long the body is."""
    names = {name for name, _ in scope["headers"]}
    size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if size + len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEAD_BYTES:
        raise Problem(431, "TOO_LARGE", f"a head has {MAX_HEAD_BYTES} bytes at most")
    # A proxy in between may have read it the other way, and taken the rest for another request.
    if {b"content-length", b"transfer-encoding"} <= names:
        raise Problem(400, "UNREADABLE", "a body has a length or comes in chunks, not both")


class _Answer:
    """Sends on, with our headers; knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            own = {name.lower() for name, _ in message.get("headers", ())}
            more = [pair for pair in HEADERS if pair[0] not in own]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await self._send(message)


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body of a request. Raises Problem for one that is too large or too slow."""
    too_large = Problem(413, "TOO_LARGE", f"a request has {MAX_BODY_BYTES} bytes at most")
    for name, value in scope["headers"]:
        if name == b"content-length" and len(value) > 9:
            raise too_large
        if name == b"content-length" and int(value) > MAX_BODY_BYTES:
            raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    # The caller has left.
                    raise Problem(400, "CANCELLED", "the request has no end")
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Problem(408, "REQUEST_TIMEOUT", "the request did not come to its end") from None


def _given(body: bytes, receive: Receive) -> Receive:
    """A receive() that gives a body at hand, then whatever else happens."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given
