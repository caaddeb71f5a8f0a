"""What a caller is told when there is no answer: an HTTP status, a code, and one line.

The codes are gRPC's own where the server said them, so that a client of both sees the same word.
"""

import time
from math import ceil
from typing import Any, Final, final

import grpc
from fastapi.responses import JSONResponse

from common.text import one_line
from common.wire.service import BUDGET_REFUSAL, PUSHBACK_KEY
from server.trust.budgets import SECONDS_PER_DAY

UNKNOWN_USER_TEXT: Final = "unknown user"
AWAY_TEXT: Final = "the server cannot be reached now: try again"
LATE_TEXT: Final = "the server did not answer in time"
FAILED_TEXT: Final = "the server failed: its log says more"
# After which one who found no server may ask again.
AWAY_SECONDS: Final = 1.0

# Where the server's own line says what to do.
_SAID: Final = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
}
# Where the line would speak of the gateway's own call.
_OURS: Final = {
    grpc.StatusCode.NOT_FOUND: (404, UNKNOWN_USER_TEXT),
    grpc.StatusCode.FAILED_PRECONDITION: (503, "another version is served now: try again"),
    grpc.StatusCode.UNAVAILABLE: (503, AWAY_TEXT),
    grpc.StatusCode.CANCELLED: (503, AWAY_TEXT),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, LATE_TEXT),
}


@final
class Problem(Exception):  # noqa: N818 - what HTTP calls it (RFC 9457)
    """Ends a request with a status.

    code   a word for programs
    pause  seconds after which it may be tried again; None says nothing of that
    """

    def __init__(self, status: int, code: str, text: str, *, pause: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.pause = pause

    @property
    def headers(self) -> dict[str, str]:
        headers = {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.pause is not None:
            headers["Retry-After"] = str(max(1, ceil(self.pause)))
        return headers

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "status": self.status,
            "code": self.code,
            "error": one_line(str(self)),
        }
        if self.pause is not None:
            content["retry_after_ms"] = ceil(1000 * self.pause)
        return content

    def response(self) -> JSONResponse:
        return JSONLine(self.content, self.status, self.headers)


class JSONLine(JSONResponse):
    """One line of JSON, with its end."""

    def render(self, content: Any) -> bytes:
        return super().render(content) + b"\n"


def problem_of(error: grpc.aio.AioRpcError) -> Problem:
    """What a caller of the gateway is told of a call that the server refused."""
    code = error.code()
    if code in _OURS:
        status, text = _OURS[code]
        pause = AWAY_SECONDS if status == 503 else None
        return Problem(status, code.name, text, pause=pause)
    if code not in _SAID:
        return Problem(502, code.name, FAILED_TEXT)
    trailing = [(str(key), str(value)) for key, value in error.trailing_metadata() or ()]
    text = error.details() or code.name
    if BUDGET_REFUSAL in trailing:
        # Budgets are of a day, which ends at midnight UTC.
        return Problem(429, "BUDGET", text, pause=SECONDS_PER_DAY - time.time() % SECONDS_PER_DAY)
    return Problem(_SAID[code], code.name, text, pause=_pushback(trailing))


def _pushback(trailing: list[tuple[str, str]]) -> float | None:
    for key, value in trailing:
        if key == PUSHBACK_KEY and value.isdecimal():
            return int(value[:9]) / 1000
    return None
