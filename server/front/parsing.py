"""Requests that are no message: refused behind the gate with a constant text, and counted.

gRPC would answer UNKNOWN with the name of a class, before a token was looked at.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, final

import grpc
from google.protobuf.message import DecodeError

from server.metrics import Metrics

GARBAGE_TEXT: Final = "the request is no message of this call"

Deserializer = Callable[[bytes], Any]


@final
class Garbage:
    """In the place of a request that could not be parsed; it names no user."""


def tolerant(deserializer: Deserializer) -> Deserializer:
    """The same, with Garbage for what it cannot parse."""

    def parsed(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError:
            return Garbage()

    return parsed


@final
class Parsing(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Parses after all gates that stand before it in the list have let a call through."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        handler = await continuation(details)
        if handler is None or handler.request_deserializer is None:
            return handler
        call = details.method.rpartition("/")[2]
        serializers = {
            "request_deserializer": tolerant(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            answered = self._answered(call, handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(answered, **serializers)
        if handler.unary_stream is not None:
            streamed = self._streamed(call, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(streamed, **serializers)
        return handler

    def _answered(self, call: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
            if isinstance(request, Garbage):
                await self._refuse(call, context)
            return await inner(request, context)

        return answer

    def _streamed(self, call: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        # Some write their replies, others yield them: the gate looks which of both it is.
        if not inspect.isasyncgenfunction(inner):
            return self._answered(call, inner)

        async def answer(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            if isinstance(request, Garbage):
                await self._refuse(call, context)
            async for reply in inner(request, context):
                yield reply

        return answer

    async def _refuse(self, call: str, context: grpc.aio.ServicerContext) -> None:
        code = grpc.StatusCode.INVALID_ARGUMENT
        self._metrics.ended(call, code.name, 0.0)
        await context.abort(code, GARBAGE_TEXT)
