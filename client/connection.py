"""A device's connection to the server: every call has a deadline, and every answer is checked.

A call that finds no server is repeated, with growing pauses, until `patience` seconds have
passed without progress. What the server says is a stranger's text: it is cut to one line.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple, NoReturn, Self, TypeVar, final

import grpc

from client.retry import FIRST_PAUSE_SECONDS, Retry
from common.errors import InputError, VicinalError
from common.model_version import ModelVersion, decode_version, version_digest
from common.neighborhood import Neighborhood
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.description import Description, description_from_wire
from common.wire.messages import counts_from_wire, counts_to_wire, neighborhood_from_wire
from common.wire.offload_pb2_grpc import OffloadStub

# A neighborhood of the most rows allowed, with 64 floats a row, is 16 MiB.
MAX_ANSWER_BYTES: Final = 64 << 20
PATIENCE_SECONDS: Final = 8.0
FETCH_ATTEMPTS: Final = 3
# Milliseconds after which a saturated server wants to be asked again; gRPC's own name.
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
# A stream slower than this is given up.
LEAST_BYTES_PER_SECOND: Final = 64 << 10

Reply = TypeVar("Reply")


class VersionRefusedError(VicinalError):
    """The server serves another version by now: describe again."""


class _DamagedError(VicinalError):
    """A transfer that did not give the version's bytes."""


class FetchedModel(NamedTuple):
    """A verified version, its bytes, and the bytes received for it, repeats included."""

    version: ModelVersion
    data: bytes
    received: int


class Package(NamedTuple):
    """One user's neighborhood, and the size of the message it came in."""

    neighborhood: Neighborhood
    received: int


@final
class Connection:
    """Calls to one server; a context manager. Not shared between threads.

    address  HOST:PORT
    """

    def __init__(self, address: str, *, patience: float = PATIENCE_SECONDS) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise InputError(f"{address[:80]!r} is no server: give HOST:PORT, as 127.0.0.1:50551")
        self.address = address
        self._patience = patience
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
                # A proxy meant for the web must not see neighbors' ratings.
                ("grpc.enable_http_proxy", 0),
                # The channel's own pauses between attempts would outlast our patience.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 1000),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._stub = OffloadStub(self._channel)

    def describe(self) -> Description:
        """Raises VicinalError when there is no server, or it describes nothing usable."""
        message: wire.Description = self._call(self._stub.Describe, wire.DescribeRequest())
        return self._checked(lambda: description_from_wire(message))

    def fetch_model(self, description: Description) -> FetchedModel:
        """The version described, verified.

        Bytes that are not those of the name are thrown away and fetched anew, 3 times at
        most. Raises VicinalError, VersionRefusedError.
        """
        received = 0
        problem = ""
        for attempt in range(FETCH_ATTEMPTS):
            time.sleep(attempt * FIRST_PAUSE_SECONDS)
            buffer = bytearray()
            try:
                self._receive(description, buffer)
            except _DamagedError as error:
                problem = str(error)
                continue
            finally:
                received += len(buffer)
            data = bytes(buffer)
            if version_digest(data) == description.version:
                return FetchedModel(self._decoded(description, data), data, received)
            problem = "its SHA-256 is another"
        return self._fail(
            f"model version {description.version[:12]} arrived damaged {FETCH_ATTEMPTS} times "
            f"({problem})"
        )

    def package(self, description: Description, user: int, preset: str) -> Package:
        """One user's neighborhood.

        Raises InputError for an unknown user or preset, VersionRefusedError, VicinalError.
        """
        request = wire.PackageRequest(version=description.version, user=user, preset=preset)
        message: wire.OffloadPackage = self._call(self._stub.GetPackage, request)
        neighborhood = self._checked(
            lambda: neighborhood_from_wire(message.neighborhood, description.manifest)
        )
        if message.version != description.version:
            self._fail("the package is of another model version")
        if len(neighborhood) != description.preset(preset).neighbors:
            self._fail(f"the package has {len(neighborhood)} rows, which are not k")
        return Package(neighborhood, message.ByteSize())

    def recommend(self, description: Description, user: int, preset: str) -> list[int]:
        """The server's own answer, best first. Raises as package() does."""
        request = wire.RecommendRequest(version=description.version, user=user, preset=preset)
        message: wire.Recommendation = self._call(self._stub.Recommend, request)
        return list(message.items)

    def report(self, description: Description, preset: str, key: str, counts: Counts) -> bool:
        """Report counts; False when the key was counted before. Raises as package() does."""
        request = wire.ReportRequest(
            version=description.version, preset=preset, key=key, counts=counts_to_wire(counts)
        )
        message: wire.ReportReply = self._call(self._stub.Report, request)
        return message.counted

    def tally(self, description: Description, preset: str) -> tuple[int, Counts]:
        """Reports so far, and their sum. Raises as package() does."""
        request = wire.TallyRequest(version=description.version, preset=preset)
        message: wire.TallyReply = self._call(self._stub.GetTally, request)
        return message.reports, self._checked(lambda: counts_from_wire(message.counts))

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _receive(self, description: Description, data: bytearray) -> None:
        """Append the version's bytes to `data`, resuming where a lost connection stopped.

        Raises _DamagedError when chunks do not follow one another up to the size described.
        """
        size = description.version_bytes
        retry = Retry(self._patience)
        while True:
            request = wire.FetchModelRequest(version=description.version, offset=len(data))
            limit = self._patience + (size - len(data)) / LEAST_BYTES_PER_SECOND
            before = len(data)
            stream = self._stub.FetchModel(request, timeout=limit)
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
                self._pause_or_raise(error, retry, not_found=VersionRefusedError)
            finally:
                stream.cancel()

    def _decoded(self, description: Description, data: bytes) -> ModelVersion:
        version = self._checked(lambda: decode_version(data, expected_digest=description.version))
        if version.manifest != description.manifest:
            self._fail("the manifest it describes is not the one inside the model version")
        return version

    def _call(self, method: Callable[..., Reply], request: object) -> Reply:
        """One answer, within `patience` seconds. Raises what _pause_or_raise says."""
        retry = Retry(self._patience)
        while True:
            try:
                return method(request, timeout=retry.remaining())
            except grpc.RpcError as error:
                self._pause_or_raise(error, retry)

    def _pause_or_raise(
        self,
        error: grpc.RpcError,
        retry: Retry,
        *,
        not_found: type[VicinalError] = InputError,
    ) -> None:
        """Return after a pause when the call is worth repeating; raise a clear error else."""
        code, details = error.code(), one_line(error.details())
        refusals: dict[grpc.StatusCode, type[VicinalError]] = {
            grpc.StatusCode.INVALID_ARGUMENT: InputError,
            grpc.StatusCode.OUT_OF_RANGE: InputError,
            grpc.StatusCode.NOT_FOUND: not_found,
            grpc.StatusCode.FAILED_PRECONDITION: VersionRefusedError,
        }
        if code in refusals:
            raise refusals[code](f"server {self.address}: {details}") from None
        hint = pushback(error) if code == grpc.StatusCode.RESOURCE_EXHAUSTED else None
        if hint is not None:
            if retry.pause(hint):
                return
            self._fail(f"{details} (asked for {self._patience:g} s)")
        # A server that stops cancels what has not finished within its grace.
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            if retry.pause():
                return
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise VicinalError(
                f"no answer from a server at {self.address} within {self._patience:g} s: "
                "start `vicinal serve`, or name another --server"
            ) from None
        self._fail(f"{code.name}: {details}")

    def _checked(self, decode: Callable[[], Reply]) -> Reply:
        """What `decode` gives; a bad answer is the server's fault, not the user's input."""
        try:
            return decode()
        except InputError as error:
            self._fail(one_line(str(error)))

    def _fail(self, what: str) -> NoReturn:
        raise VicinalError(f"server {self.address}: {what}")


def pushback(error: grpc.RpcError) -> float | None:
    """Seconds after which the server wants to be asked again, if it says so."""
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK_KEY and isinstance(value, str) and value.isdecimal():
            return int(value[:9]) / 1000
    return None


def one_line(text: str | None) -> str:
    """A stranger's text, short and printable."""
    words = " ".join((text or "no details").split())[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in words)
