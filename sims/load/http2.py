"""Unary gRPC calls at a few microseconds each, for a load generator that shares the cores.

A grpc.aio client takes as much processor time for a call as the front of the server does; on a
machine with two cores it would be the client that is measured. This speaks just enough HTTP/2
(RFC 9113) and HPACK (RFC 7541) to ask a gRPC server on loopback one call over and over: requests
of one frame, headers as literals, no table of headers on either side. Everything that it does not
understand is an error, never a missing sample.
"""

import socket
from collections import deque
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple, final

from common.wire.service import TOKEN_KEY, TOKEN_SCHEME

_FRAME: Final = Struct(">BHBBI")
_HEADER_BYTES: Final = 9
_SETTING: Final = Struct(">HI")
_WORD: Final = Struct(">I")
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
# Settings: no table of headers, so that they come as plain text; no pushed streams; and windows
# so large that a reply never waits for this side.
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MOST_STREAMS, _INITIAL_WINDOW = 1, 2, 3, 4
_LARGEST_WINDOW: Final = (1 << 31) - 1
_FIRST_WINDOW: Final = 65535
# Bytes received before the other side is allowed to send as many again.
_WIDEN_BYTES: Final = 1 << 30
_PREFIX_BYTES: Final = 5
_STATUS_NAME: Final = b"grpc-status"
_READ_BYTES: Final = 1 << 16
# Why streams are reset. One that was refused was not looked at: it is asked again, as gRPC does
# (RFC 9113, 8.7). A server refuses them while it has not yet put away as many that have ended.
_REFUSED_STREAM, _ENHANCE_YOUR_CALM = 7, 11
# What gRPC makes of the others.
_RESET_STATUS: Final = {_ENHANCE_YOUR_CALM: 8}


class ProtocolError(Exception):
    """The other side said something that this one does not understand."""


class Ended(NamedTuple):
    """A call's token, the gRPC status that it ended with, and the bytes of its reply."""

    token: int
    status: int
    octets: int


@final
class Calls:
    """One connection on which one method is called; never blocks after its construction.

    source  the address to come from, where that matters; token: a bearer token

    Calls that the server's flow control holds back leave as soon as it lets them; `flush` and
    `receive` move bytes, and are to be called when `socket` is ready.
    """

    def __init__(
        self,
        address: str,
        method: str,
        *,
        timeout_seconds: int,
        source: str = "",
        token: str = "",
    ) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._headers = request_headers(address, method, timeout_seconds, token)
        self._out = bytearray(_PREFACE)
        self._in = bytearray()
        self._window = _FIRST_WINDOW
        self._most = _LARGEST_WINDOW
        self._taken = 0
        self._held: deque[tuple[int, bytes]] = deque()
        self._open: dict[int, tuple[int, bytes]] = {}
        self._octets: dict[int, int] = {}
        self._stream = 1
        settings = ((_HEADER_TABLE_SIZE, 0), (_ENABLE_PUSH, 0), (_INITIAL_WINDOW, _LARGEST_WINDOW))
        self._frame(_SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in settings))
        self._frame(_WINDOW_UPDATE, 0, 0, _WORD.pack(_LARGEST_WINDOW - _FIRST_WINDOW))

    @property
    def under_way(self) -> int:
        """Calls that have not ended."""
        return len(self._open) + len(self._held)

    def ask(self, token: int, message: bytes) -> None:
        """Call with a protobuf message; `receive` gives the token back."""
        self._held.append((token, b"\0" + _WORD.pack(len(message)) + message))
        self._release()

    def flush(self) -> bool:
        """Send what can be sent now; whether something is left."""
        if self._out:
            try:
                del self._out[: self.socket.send(self._out)]
            except BlockingIOError:
                return True
        return bool(self._out)

    def receive(self) -> Iterator[Ended]:
        """The calls that have ended. Raises ProtocolError."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ProtocolError("the server closed the connection")
        self._in += data
        start = 0
        while len(self._in) - start >= _HEADER_BYTES:
            high, low, kind, flags, stream = _FRAME.unpack_from(self._in, start)
            end = start + _HEADER_BYTES + (high << 16 | low)
            if len(self._in) < end:
                break
            body = bytes(self._in[start + _HEADER_BYTES : end])
            start = end
            if (status := self._read(kind, flags, stream, body)) is not None:
                token, _ = self._open.pop(stream)
                yield Ended(token, status, self._octets.pop(stream, 0))
        del self._in[:start]
        self._release()

    def close(self) -> None:
        self.socket.close()

    def _read(self, kind: int, flags: int, stream: int, body: bytes) -> int | None:
        """The status of a call that a frame ends."""
        if kind == _DATA:
            self._take(stream, len(body))
        elif kind == _HEADERS:
            if not flags & _END_HEADERS:
                raise ProtocolError("headers in several frames")
            return _status(body) if flags & _END_STREAM else None
        elif kind == _SETTINGS and not flags & _ACK:
            self._most = dict(_SETTING.iter_unpack(body)).get(_MOST_STREAMS, self._most)
            self._frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._frame(_PING, _ACK, 0, body)
        elif kind == _WINDOW_UPDATE and not stream:
            # A stream's own window is larger than what one call sends.
            self._window += _WORD.unpack(body)[0]
        elif kind == _RST_STREAM and stream in self._open:
            (code,) = _WORD.unpack(body)
            if code != _REFUSED_STREAM:
                return _reset_status(code)
            self._held.appendleft(self._open.pop(stream))
        elif kind == _GOAWAY:
            raise ProtocolError(f"the server ends the connection: {body[8:]!r}")
        # A stream may be reset after its status: the server no longer reads what it ignores.
        return None

    def _take(self, stream: int, size: int) -> None:
        self._octets[stream] = self._octets.get(stream, -_PREFIX_BYTES) + size
        self._taken += size
        if self._taken > _WIDEN_BYTES:
            self._frame(_WINDOW_UPDATE, 0, 0, _WORD.pack(self._taken))
            self._taken = 0

    def _release(self) -> None:
        while self._held and len(self._held[0][1]) <= self._window and len(self._open) < self._most:
            token, data = self._held.popleft()
            self._window -= len(data)
            self._open[self._stream] = token, data
            self._frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
            self._frame(_DATA, _END_STREAM, self._stream, data)
            self._stream += 2

    def _frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        size = len(body)
        self._out += _FRAME.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + body


def _status(block: bytes) -> int:
    at = block.rfind(_STATUS_NAME)
    if at < 0:
        raise ProtocolError("a call ended without a status")
    at += len(_STATUS_NAME)
    return int(block[at + 1 : at + 1 + block[at]])


def _reset_status(code: int) -> int:
    if code not in _RESET_STATUS:
        raise ProtocolError(f"the server reset a call with HTTP/2's error code {code}")
    return _RESET_STATUS[code]


def request_headers(address: str, method: str, timeout_seconds: int, token: str = "") -> bytes:
    """A block of headers that enters no table."""
    pairs = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method.encode()),
        (b":authority", address.encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"%dS" % timeout_seconds),
    ]
    if token:
        pairs.append((TOKEN_KEY.encode(), (TOKEN_SCHEME + token).encode()))
    return b"".join(_literal(name, value) for name, value in pairs)


def _literal(name: bytes, value: bytes) -> bytes:
    # 0: a literal that enters no table, then name and value with their lengths.
    return bytes((0, len(name))) + name + _length(len(value)) + value


def _length(size: int) -> bytes:
    """HPACK's integers of 7 bits and more (RFC 7541, 5.1).

    >>> _length(126).hex(), _length(1337 + 96).hex()
    ('7e', '7f9a0a')
    """
    if size < 127:
        return bytes((size,))
    rest, octets = size - 127, [127]
    while rest > 127:
        octets.append(128 | rest & 127)
        rest >>= 7
    return bytes((*octets, rest))
