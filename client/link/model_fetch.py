"""Fetching the bytes of a model version: whole, packed, or as a delta to a stored one.

Whatever way they came, they are used only when their SHA-256 is that of the form described.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple, final

import grpc

from client.link.retry import FIRST_PAUSE_SECONDS, Retry
from common.errors import InputError, VicinalError
from common.versions.encodings import Form
from common.versions.transfers import unpack
from common.versions.version import version_digest
from common.wire import offload_pb2 as wire
from common.wire.description import BookForm, Description
from common.wire.service import LEAST_BYTES_PER_SECOND

FETCH_ATTEMPTS: Final = 3

# The bytes of a form that the device holds, by digest; None when it does not.
FormLookup = Callable[[str], bytes | None]


class FetchedForm(NamedTuple):
    """A form's bytes, and the bytes received for it, repeats included."""

    data: bytes
    received: int


class NotServedError(VicinalError):
    """The server has not, or not any more, what was asked for."""


class _DamagedError(VicinalError):
    """A transfer that did not give the bytes it was to give."""


@final
class Fetcher:
    """Fetches from one server; used by client.link.connection.

    fetch           the stub's FetchModel
    pause_or_raise  returns after a pause when a failed call is worth repeating, raises else
    """

    def __init__(
        self,
        fetch: Callable[..., "grpc.Call"],
        pause_or_raise: Callable[[grpc.RpcError, Retry], None],
        *,
        patience: float,
    ) -> None:
        self._fetch = fetch
        self._pause_or_raise = pause_or_raise
        self._patience = patience

    def form(self, description: Description, form: Form, stored: FormLookup) -> FetchedForm:
        """The form's bytes by the smallest way that there is, verified.

        What a smaller way does not give, as when it is a lie, is fetched whole. Raises
        VicinalError when the form arrives damaged every time, and what pause_or_raise raises.
        """
        received = 0
        ways = [way for way in description.transfers if way.form == form.digest]
        for way in sorted(ways, key=lambda way: way.size):
            base = None if way.base is None else stored(way.base)
            if way.base is not None and base is None:
                continue
            try:
                packed = self._verified(description.version, way.digest, way.size)
            except NotServedError:  # as after a restart of the server
                continue
            received += packed.received
            data = _unpacked(packed.data, form, base)
            if data is not None:
                return FetchedForm(data, received)
        whole = self._verified(description.version, form.digest, form.size)
        return FetchedForm(whole.data, received + whole.received)

    def book(self, description: Description, form: BookForm) -> FetchedForm:
        """The bytes of a version's book, verified. Raises as form() does."""
        return self._verified(description.version, form.digest, form.size)

    def _verified(self, version: str, digest: str, size: int) -> FetchedForm:
        """Bytes of that digest; others are thrown away and fetched anew, 3 times at most."""
        received = 0
        problem = ""
        for attempt in range(FETCH_ATTEMPTS):
            time.sleep(attempt * FIRST_PAUSE_SECONDS)
            buffer = bytearray()
            try:
                self._receive(version, digest, size, buffer)
            except _DamagedError as error:
                problem = str(error)
                continue
            finally:
                received += len(buffer)
            data = bytes(buffer)
            if version_digest(data) == digest:
                return FetchedForm(data, received)
            problem = "its SHA-256 is another"
        raise VicinalError(
            f"model version {version[:12]} arrived damaged {FETCH_ATTEMPTS} times ({problem})"
        )

    def _receive(self, version: str, digest: str, size: int, data: bytearray) -> None:
        """Append `size` bytes to `data`, resuming where a lost connection stopped.

        Raises _DamagedError when chunks do not follow one another up to the size described.
        """
        retry = Retry(self._patience)
        while True:
            request = wire.FetchModelRequest(version=version, digest=digest, offset=len(data))
            limit = self._patience + (size - len(data)) / LEAST_BYTES_PER_SECOND
            before = len(data)
            stream = self._fetch(request, timeout=limit)
            try:
                for chunk in stream:
                    if chunk.offset != len(data) or not chunk.data:
                        raise _DamagedError("its chunks do not follow one another")
                    if len(chunk.data) > size - len(data):
                        raise _DamagedError("there are more bytes than described")
                    data += chunk.data
                if len(data) != size:
                    raise _DamagedError(f"{len(data)} of {size} bytes came")
                return
            except grpc.RpcError as error:
                if len(data) > before:
                    retry = Retry(self._patience)
                self._pause_or_raise(error, retry)
            finally:
                stream.cancel()


def _unpacked(packed: bytes, form: Form, base: bytes | None) -> bytes | None:
    """The form, or None when the packed bytes give something else."""
    try:
        data = unpack(packed, form.encoding, form.size, base)
    except InputError:
        return None
    return data if version_digest(data) == form.digest else None
