"""Checks of every call before it is answered: token, user, rate, deadline.

Texts are constant: whoever asks for somebody else's user learns nothing of whether there is one.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, Final, TypeVar, final

import grpc

from common.wire.service import SERVICE_NAME, TOKEN_KEY, TOKEN_SCHEME, pushback
from server.metrics import Metrics
from server.trust.limits import RateLimit
from server.trust.tokens import TokenKeys, TokenRefusedError

# What anybody may ask; whatever is added to the contract needs a token until it is named here.
OPEN_CALLS: Final = frozenset({"Describe", "FetchModel"})
OPERATOR_CALLS: Final = frozenset({"GetTally"})
UNAUTHENTICATED_TEXT: Final = "a valid bearer token is needed"
OTHER_USER_TEXT: Final = "the bearer token is not for this user"
OPERATOR_TEXT: Final = "this needs an operator's token: `vicinal token --operator` prints one"
RATE_TEXT: Final = "too many calls for this user"
DEADLINE_TEXT: Final = "the call took longer than any may"

# Users of the bearer token of the call that is being answered; None: it needed none.
ALLOWED_USERS: Final[ContextVar[range | None]] = ContextVar("allowed users", default=None)

Handler = Callable[[Any, grpc.aio.ServicerContext], Any]
Said = TypeVar("Said")


class _RefusedError(Exception):
    """Ends a call with a status; `pause` is in seconds."""

    def __init__(self, code: grpc.StatusCode, text: str, pause: float | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.pause = pause


@final
class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Refuses calls before a handler sees them, and ends those that take too long.

    users         who can be asked for: indices below it
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
        keys: TokenKeys | None = None,
        loopback: bool = True,
        rate: RateLimit | None = None,
        call_seconds: float,
        stream_seconds: float,
    ) -> None:
        self._metrics = metrics
        self._users = users
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
        guarded = service == SERVICE_NAME and call not in OPEN_CALLS
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            inner = self._guarded(call, handler.unary_unary) if guarded else handler.unary_unary
            return grpc.unary_unary_rpc_method_handler(self._timed(inner), **serializers)
        if handler.unary_stream is not None and not guarded:
            return grpc.unary_stream_rpc_method_handler(
                self._timed_stream(handler.unary_stream), **serializers
            )
        # No such call is in the contract: nobody may make one that nothing here guards.
        return None

    def _timed(self, inner: Handler) -> Handler:
        async def answer(request: object, context: grpc.aio.ServicerContext) -> object:
            try:
                async with asyncio.timeout(self._call_seconds):
                    return await inner(request, context)
            except TimeoutError:
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
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE_TEXT)

        return answer

    def _guarded(self, call: str, inner: Handler) -> Handler:
        async def answer(request: object, context: grpc.aio.ServicerContext) -> object:
            begun = time.perf_counter()
            try:
                self._admit(call, request, context)
            except _RefusedError as refused:
                self._metrics.ended(call, refused.code.name, time.perf_counter() - begun)
                trailing = () if refused.pause is None else (pushback(refused.pause),)
                return await context.abort(refused.code, str(refused), trailing)
            return await inner(request, context)

        return answer

    def _admit(self, call: str, request: object, context: grpc.aio.ServicerContext) -> None:
        """Raises _RefusedError."""
        if call in OPERATOR_CALLS:
            self._admit_operator(context)
            return
        user = getattr(request, "user", None)
        caller: Hashable = user
        if self._keys is not None:
            allowed = self._allowed(self._keys, context)
            ALLOWED_USERS.set(allowed)
            if user is not None and not (user in allowed and user < self._users):
                raise _RefusedError(grpc.StatusCode.PERMISSION_DENIED, OTHER_USER_TEXT)
            caller = user if user is not None else (call, allowed)
        # A user who cannot be is remembered by nobody; a report without a token has no user.
        if self._rate is None or caller is None or (user is not None and user >= self._users):
            return
        if pause := self._rate.wait(caller):
            raise _RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, RATE_TEXT, pause)

    def _admit_operator(self, context: grpc.aio.ServicerContext) -> None:
        if self._keys is None:
            good = self._loopback
        else:
            good = self._shown(self._keys.of_operator, context)
        if not good:
            raise _RefusedError(grpc.StatusCode.PERMISSION_DENIED, OPERATOR_TEXT)

    def _allowed(self, keys: TokenKeys, context: grpc.aio.ServicerContext) -> range:
        return self._shown(keys.users, context)

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
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, UNAUTHENTICATED_TEXT) from None
