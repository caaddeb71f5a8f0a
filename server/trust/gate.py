"""Checks of every call before it is answered: places, token, user, rate, deadline.

Texts are constant: whoever asks for somebody else's user learns nothing of whether there is one.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeVar, final

import grpc

from common.wire.service import (
    SERVICE_NAME,
    TOKEN_KEY,
    TOKEN_SCHEME,
    USERS_PER_REPORT,
    pushback,
)
from server.metrics import Metrics
from server.trust.limits import RateLimit
from server.trust.peers import peer_of
from server.trust.places import Arrivals, CallLimits, CrowdedError, Places
from server.trust.tokens import TokenKeys, TokenRefusedError
from server.workers.fair_queue import CALLER
from server.workers.tarpit import Tarpit

# What anybody may ask; whatever is added to the contract needs a token until it is named here.
OPEN_CALLS: Final = frozenset({"Describe", "FetchModel"})
OPERATOR_CALLS: Final = frozenset({"GetTally"})
UNAUTHENTICATED_TEXT: Final = "a valid bearer token is needed"
OTHER_USER_TEXT: Final = "the bearer token is not for this user"
OPERATOR_TEXT: Final = "this needs an operator's token: `vicinal token --operator` prints one"
RATE_TEXT: Final = "too many calls for this user"
DEADLINE_TEXT: Final = "the call took longer than any may"
CROWDED_TEXTS: Final = {
    "calls": "too many calls at a time",
    "calls_peer": "too many calls at a time from this address",
    "calls_token": "too many calls at a time with this token",
}
# Devices add a random part, so that they do not come back together.
CROWDED_SECONDS: Final = 0.5

# Users of the bearer token of the call that is being answered; None: it needed none.
ALLOWED_USERS: Final[ContextVar[range | None]] = ContextVar("allowed users", default=None)

Handler = Callable[[Any, grpc.aio.ServicerContext], Any]
Said = TypeVar("Said")


class _Method(NamedTuple):
    """A call's name, and whether it needs a user's token, or an operator's."""

    name: str
    guarded: bool
    operators: bool


class _RefusedError(Exception):
    """Ends a call with a status; `reason` is for the metrics, `pause` is in seconds."""

    def __init__(
        self, code: grpc.StatusCode, text: str, reason: str, pause: float | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason
        self.pause = pause


@final
class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Refuses calls before a handler sees them, and ends those that take too long.

    users         who can be asked for: indices below it; set when there are more
    calls         that may be under way
    keys          of tokens; None asks nobody for one
    loopback      whether nobody but this machine is listened to: the tally needs no token then,
                  unless there are keys
    rate          of each user's calls, reports apart; None does not limit them
    call_seconds  after which a call is ended, whatever deadline it has; `stream_seconds` is
                  the same for a stream
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        users: int,
        calls: CallLimits,
        keys: TokenKeys | None = None,
        loopback: bool = True,
        rate: RateLimit | None = None,
        call_seconds: float,
        stream_seconds: float,
    ) -> None:
        self._metrics = metrics
        self.users = users
        self._places = Places(calls)
        self._arrivals = Arrivals()
        self._tarpit = Tarpit()
        self._keys = keys
        self._loopback = loopback
        self._rate = rate
        self._call_seconds = call_seconds
        self._stream_seconds = stream_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        handler = await continuation(details)
        if handler is None:
            return None
        service, _, call = details.method.removeprefix("/").partition("/")
        ours = service == SERVICE_NAME
        method = _Method(
            call,
            guarded=ours and call not in OPEN_CALLS | OPERATOR_CALLS,
            operators=ours and call in OPERATOR_CALLS,
        )
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            answer = self._placed(method, self._timed(handler.unary_unary))
            made = grpc.unary_unary_rpc_method_handler(answer, **serializers)
        elif handler.unary_stream is not None and not (method.guarded or method.operators):
            answer = self._placed(method, self._timed_stream(handler.unary_stream))
            made = grpc.unary_stream_rpc_method_handler(answer, **serializers)
        else:
            # No such call is in the contract: nobody may make one that nothing here guards.
            return None
        if task := asyncio.current_task():
            for _ in range(self._arrivals.begin(task)):
                self._metrics.refused("unfinished")
        return made

    def _timed(self, inner: Handler) -> Handler:
        async def answer(request: object, context: grpc.aio.ServicerContext) -> object:
            try:
                async with asyncio.timeout(self._call_seconds):
                    return await inner(request, context)
            except TimeoutError:
                self._metrics.refused("deadline")
                return await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE_TEXT)

        return answer

    def _timed_stream(self, inner: Handler) -> Handler:
        async def answer(request: object, context: grpc.aio.ServicerContext) -> None:
            # Written here instead of yielded, so that the time of a reader who stalls counts too.
            try:
                async with asyncio.timeout(self._stream_seconds):
                    if not inspect.isasyncgenfunction(inner):
                        await inner(request, context)
                        return
                    async for reply in inner(request, context):
                        await context.write(reply)
            except TimeoutError:
                self._metrics.refused("deadline")
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE_TEXT)

        return answer

    def _placed(self, method: _Method, inner: Handler) -> Handler:
        async def answer(request: object, context: grpc.aio.ServicerContext) -> object:
            if task := asyncio.current_task():
                self._arrivals.end(task)
            begun = time.perf_counter()
            peer, allowed = peer_of(context.peer()), None
            try:
                allowed = self._allowed(method, context)
                with self._places.taken(peer, allowed, halved=self._keys is not None):
                    if method.operators:
                        self._admit_operator(context)
                    self._admit(method, request, allowed)
                    # Whose turn it is at the workers.
                    CALLER.set(peer if allowed is None else allowed)
                    return await inner(request, context)
            except CrowdedError as crowded:
                reason = crowded.reason
                code, text = grpc.StatusCode.RESOURCE_EXHAUSTED, CROWDED_TEXTS[reason]
                refused = _RefusedError(code, text, reason, CROWDED_SECONDS)
            except _RefusedError as error:
                refused = error
            await self._tarpit.hold(peer if allowed is None else allowed)
            self._metrics.refused(refused.reason)
            self._metrics.ended(method.name, refused.code.name, time.perf_counter() - begun)
            trailing = () if refused.pause is None else (pushback(refused.pause),)
            return await context.abort(refused.code, str(refused), trailing)

        return answer

    def _admit(self, method: _Method, request: object, allowed: range | None) -> None:
        """Raises _RefusedError."""
        if not method.guarded:
            return
        users = _users_of(request)
        # A user who cannot be is remembered by nobody; a report without a token has no user.
        callers: list[Hashable] = [user for user in users if user < self.users]
        if allowed is not None:
            ALLOWED_USERS.set(allowed)
            if not all(user in allowed and user < self.users for user in users):
                code = grpc.StatusCode.PERMISSION_DENIED
                raise _RefusedError(code, OTHER_USER_TEXT, "other_user")
            if not users:
                callers = [(method.name, allowed)]
        for caller in callers:
            if self._rate is not None and (pause := self._rate.wait(caller)):
                raise _RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, RATE_TEXT, "rate", pause)

    def _admit_operator(self, context: grpc.aio.ServicerContext) -> None:
        if self._keys is None:
            good = self._loopback
        else:
            good = self._shown(self._keys.of_operator, context)
        if not good:
            code = grpc.StatusCode.PERMISSION_DENIED
            raise _RefusedError(code, OPERATOR_TEXT, "operator")

    def _allowed(self, method: _Method, context: grpc.aio.ServicerContext) -> range | None:
        """The users of a valid token; None without, where none is needed.

        Raises _RefusedError.
        """
        if self._keys is None:
            return None
        try:
            return self._shown(self._keys.users, context)
        except _RefusedError:
            if method.guarded:
                raise
            return None

    def _shown(self, read: Callable[[str], Said], context: grpc.aio.ServicerContext) -> Said:
        """What the token of a call says. Raises _RefusedError."""
        metadata = context.invocation_metadata() or ()
        given = [str(value) for key, value in metadata if key == TOKEN_KEY]
        try:
            # Two of them could mean one thing here and another to a proxy in between.
            if len(given) != 1 or not given[0].lower().startswith(TOKEN_SCHEME.lower()):
                raise TokenRefusedError
            return read(given[0][len(TOKEN_SCHEME) :])
        except TokenRefusedError:
            code = grpc.StatusCode.UNAUTHENTICATED
            raise _RefusedError(code, UNAUTHENTICATED_TEXT, "token") from None


def _users_of(request: object) -> list[int]:
    """Whom a request is about; of more than a report can be of, one too many, which is refused."""
    user = getattr(request, "user", None)
    if user is not None:
        return [user]
    return list(getattr(request, "users", ())[: USERS_PER_REPORT + 1])
