"""A device's connection to the server: every call has a deadline, and every answer is checked.

A call that finds no server is repeated, with growing pauses, until `patience` seconds have
passed without progress. What the server says is a stranger's text: it is cut to one line.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn, Self, TypeVar, final

import grpc

from client.budget import (
    Budget,
    OverBudgetError,
    require_answer,
    require_book,
    require_unpacking,
    require_version,
)
from client.link.channel import Access
from client.link.channels import AWAY_SECONDS, Channels
from client.link.model_fetch import FetchedForm, Fetcher, FormLookup, NotServedError
from client.link.replies import checked_items, checked_package, checked_receipts
from client.link.retry import FIRST_PAUSE_SECONDS, Retry, is_budget
from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.text import one_line
from common.versions.encodings import Encoding, Form, decode_form
from common.versions.version import ModelVersion
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.slim import SlimModel, Tables
from common.wire import offload_pb2 as wire
from common.wire.description import MAX_HELD, Description, description_from_wire
from common.wire.messages import counts_to_wire
from common.wire.sealing import OtherRatingsError, OwnRow
from common.wire.service import MAX_ANSWER_BYTES, PUSHBACK_KEY
from common.wire.slim import slim_from_wire

PATIENCE_SECONDS: Final = 8.0
# How gRPC says it.
_TOO_LARGE: Final = "larger than max"

# What one server cannot do now and another may.
_ELSEWHERE: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)

Reply = TypeVar("Reply")


class VersionRefusedError(NotServedError):
    """The server serves another version by now: describe again."""


class AccessRefusedError(VicinalError):
    """The server wants a token, or another one; what was not delivered may be later."""

    exit_code = 2


class NoAnswerError(VicinalError):
    """No server, none with time for us within the patience there was, or none we can afford.

    seconds  after which it wants to be asked again, where it said so; 0 else
    """

    def __init__(self, text: str, seconds: float = 0.0) -> None:
        super().__init__(text)
        self.seconds = seconds


class ServerFailedError(NoAnswerError):
    """The server could not do it, for reasons of its own; it may later."""


class Recommended(NamedTuple):
    """The server's own answer, best first, and what names it in a report."""

    items: list[int]
    receipt: bytes


class BudgetSpentError(VicinalError):
    """The server shows this user's neighbors no more today; its own answer may still be had."""


class FetchedModel(NamedTuple):
    """A verified version, its form and bytes, and the bytes received for it, repeats included."""

    version: ModelVersion
    form: Form
    data: bytes
    received: int


class Package(NamedTuple):
    """One user's neighborhood, the size of the message it came in, and the message.

    slim  the part of the model that it touches, where that was asked for
    """

    neighborhood: Neighborhood
    received: int
    message: wire.OffloadPackage
    slim: SlimModel | None = None


@final
class Connection:
    """Calls to a service; a context manager. Not shared between threads.

    address  HOST:PORT, or several with commas, which are one service
    access   encryption, certificate and token (client.link.channel)
    budget   what one answer may take of this device's memory and time (client.budget)
    """

    def __init__(
        self,
        address: str,
        *,
        patience: float = PATIENCE_SECONDS,
        access: Access | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.budget = budget or Budget()
        self._patience = patience
        largest = self.budget.message_bytes
        self._channels = Channels(address, access or Access(), largest=largest)
        self.address = self._channels.address
        self._fetcher = Fetcher(
            lambda request, timeout: self._channels.turn().FetchModel(request, timeout=timeout),
            partial(self._next_or_raise, not_found=VersionRefusedError),
            patience=patience,
        )

    def describe(self, encoding: Encoding = "float32", held: Sequence[str] = ()) -> Description:
        """What the server serves, and smaller ways to it from forms that are `held`.

        Raises VicinalError when there is no server, or it describes nothing usable.
        """
        request = wire.DescribeRequest(encoding=encoding, held=held[:MAX_HELD])
        message: wire.Description = self._call("Describe", request)
        return self._checked(lambda: description_from_wire(message))

    def fetch_model(
        self,
        description: Description,
        encoding: Encoding = "float32",
        stored: FormLookup = lambda _digest: None,
    ) -> FetchedModel:
        """The version described, in one of its forms, verified.

        stored  gives the bytes of forms that are here already: what changed since is less

        Bytes that are not those of the name are thrown away and fetched anew, 3 times at
        most. Raises VicinalError, VersionRefusedError; NoAnswerError for more than the budget.
        """
        self.require_version(description, encoding)
        form = self._checked(lambda: description.form(encoding))
        fetched = self._fetcher.form(description, form, stored)
        version = self._checked(
            lambda: decode_form(fetched.data, form, version=description.version)
        )
        if version.manifest != description.manifest:
            self._fail("the manifest it describes is not the one inside the model version")
        return FetchedModel(version, form, *fetched)

    def fetch_book(self, description: Description) -> FetchedForm:
        """The bytes of the version's book, which has one. Raises as fetch_model()."""
        assert description.book is not None
        return self._fetcher.book(description, description.book)

    def require_version(self, description: Description, encoding: Encoding) -> None:
        """Raises NoAnswerError for a version that is more than the budget."""
        self._affordable(lambda: require_version(self.budget, description, encoding))

    def require_book_answer(self, description: Description, ratings: int) -> None:
        """Raises NoAnswerError for an answer from a book that is more than the budget."""
        self._affordable(lambda: require_book(self.budget, description, ratings))

    def package(
        self,
        description: Description,
        user: int,
        preset: str,
        own: OwnRow,
        *,
        slim: bool = False,
        shared: Tables | None = None,
    ) -> Package:
        """One user's neighborhood; with `slim` also the part of the model that it touches.

        `own` is the user's row, which is not sent, and the key to what was sealed. `shared` is
        what an earlier slim package of the version brought; without it it is asked for.
        Raises InputError for an unknown user or preset, OtherRatingsError where the server has
        other ratings of the user, VersionRefusedError, VicinalError, and NoAnswerError for a
        package that would take more than the budget.
        """
        request = wire.PackageRequest(
            version=description.version,
            user=user,
            preset=preset,
            slim=slim,
            shared=slim and shared is None,
        )
        message: wire.OffloadPackage = self._call("GetPackage", request)
        self._checked(
            lambda: self._affordable(
                lambda: require_unpacking(self.budget, description, preset, message, own)
            )
        )
        (neighborhood, open_items), opened = self._checked(
            lambda: checked_package(message, description, preset, own)
        )
        self._affordable(
            lambda: require_answer(self.budget, description, preset, neighborhood, slim=slim)
        )
        part = None
        if slim:
            part = self._checked(
                lambda: slim_from_wire(
                    message.model,
                    opened.rows,
                    description.manifest,
                    neighborhood.ratings,
                    open_items,
                    shared=shared,
                )
            )
        return Package(neighborhood, message.ByteSize(), message, part)

    def recommend(
        self, description: Description, user: int, preset: str, *, insist: bool = True
    ) -> list[int]:
        """The items of recommended()."""
        return self.recommended(description, user, preset, insist=insist).items

    def recommended(
        self, description: Description, user: int, preset: str, *, insist: bool = True
    ) -> Recommended:
        """The server's own answer. Raises as package() does.

        insist  ask a saturated server again; without, NoAnswerError says when to
        """
        request = wire.RecommendRequest(version=description.version, user=user, preset=preset)
        message: wire.Recommendation = self._call("Recommend", request, insist=insist)
        items = self._checked(lambda: checked_items(message, description))
        return Recommended(items, message.receipt)

    def receipts(self, description: Description, users: Sequence[int], preset: str) -> list[bytes]:
        """For a report of users who were answered from a book. Raises as package() does."""
        request = wire.ReceiptsRequest(version=description.version, preset=preset, users=users)
        message: wire.ReceiptsReply = self._call("GetReceipts", request)
        return self._checked(lambda: checked_receipts(message, len(users)))

    def send_report(self, report: wire.ReportRequest) -> bool:
        """False when its key was counted before. Raises as package() does."""
        message: wire.ReportReply = self._call("Report", report)
        return message.counted

    def published(self, description: Description, preset: str) -> wire.TallyReply:
        """All that the operator is told. Raises as package() does."""
        request = wire.TallyRequest(version=description.version, preset=preset)
        message: wire.TallyReply = self._call("GetTally", request)
        return message

    def close(self) -> None:
        self._channels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _call(self, call: str, request: object, *, insist: bool = True) -> Any:
        """One answer, within `patience` seconds. Raises what _pause_or_raise says."""
        retry = Retry(self._patience)
        while True:
            try:
                method = getattr(self._channels.turn(), call)
                seconds = self._channels.seconds(retry.remaining())
                return method(request, timeout=seconds, metadata=self._channels.metadata)
            except grpc.RpcError as error:
                hint = pushback(error)
                if hint is not None and not insist:
                    raise NoAnswerError(f"server {self.address}: saturated", hint) from None
                self._next_or_raise(error, retry)

    def _next_or_raise(
        self,
        error: grpc.RpcError,
        retry: Retry,
        *,
        not_found: type[VicinalError] = InputError,
    ) -> None:
        """Return at once where another server can be asked; else as _pause_or_raise()."""
        hint = pushback(error) if not is_budget(error) else None
        if error.code() in _ELSEWHERE or hint is not None:
            time_left = retry.remaining() > FIRST_PAUSE_SECONDS
            if self._channels.leave(hint or AWAY_SECONDS) and time_left:
                return
        self._pause_or_raise(error, retry, not_found=not_found)

    def _pause_or_raise(
        self,
        error: grpc.RpcError,
        retry: Retry,
        *,
        not_found: type[VicinalError] = InputError,
    ) -> None:
        """Return after a pause when the call is worth repeating; raise a clear error else."""
        code, details = error.code(), one_line(error.details() or "no details")
        refusals: dict[grpc.StatusCode, type[VicinalError]] = {
            grpc.StatusCode.INVALID_ARGUMENT: InputError,
            grpc.StatusCode.OUT_OF_RANGE: InputError,
            grpc.StatusCode.NOT_FOUND: not_found,
            grpc.StatusCode.FAILED_PRECONDITION: VersionRefusedError,
            grpc.StatusCode.UNAUTHENTICATED: AccessRefusedError,
            grpc.StatusCode.PERMISSION_DENIED: AccessRefusedError,
        }
        if code in refusals:
            raise refusals[code](f"server {self.address}: {details}") from None
        if is_budget(error):
            raise BudgetSpentError(f"server {self.address}: {details}") from None
        hint = pushback(error) if code == grpc.StatusCode.RESOURCE_EXHAUSTED else None
        if hint is not None:
            if retry.pause(hint):
                return
            raise NoAnswerError(
                f"server {self.address}: {details} (asked for {self._patience:g} s)", hint
            ) from None
        if code == grpc.StatusCode.UNAVAILABLE and (refusal := self._channels.refusal()):
            self._fail(refusal)
        # A server that stops cancels what has not finished within its grace.
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            if retry.pause():
                return
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise NoAnswerError(
                f"no answer from a server at {self.address} within {self._patience:g} s: "
                "start `vicinal serve`, or name another --server"
            ) from None
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in details:
            most = min(self.budget.message_bytes, MAX_ANSWER_BYTES)
            raise NoAnswerError(
                f"server {self.address}: its answer is larger than the {most:,} bytes that this "
                "device takes: a sixteenth of --memory, and 64 MiB at most"
            ) from None
        raise ServerFailedError(f"server {self.address}: {code.name}: {details}") from None

    def _checked(self, decode: Callable[[], Reply]) -> Reply:
        """What `decode` gives; a bad answer is the server's fault, not the user's input."""
        try:
            return decode()
        except OtherRatingsError:
            raise
        except InputError as error:
            self._fail(one_line(str(error)))

    def _affordable(self, require: Callable[[], None]) -> None:
        """Raises NoAnswerError when the answer that was asked for is too much for this device."""
        try:
            require()
        except OverBudgetError as error:
            raise NoAnswerError(f"server {self.address}: {error}") from None

    def _fail(self, what: str) -> NoReturn:
        raise VicinalError(f"server {self.address}: {what}")


def report_of(
    description: Description,
    preset: str,
    key: str,
    counts: Counts,
    receipts: Sequence[bytes] = (),
    stale_receipts: Sequence[bytes] = (),
) -> wire.ReportRequest:
    """The report of the summed counts of some users, with the receipts of their answers."""
    return wire.ReportRequest(
        version=description.version,
        preset=preset,
        key=key,
        counts=counts_to_wire(counts),
        receipts=receipts,
        stale_receipts=stale_receipts,
    )


def pushback(error: grpc.RpcError) -> float | None:
    """Seconds after which the server wants to be asked again, if it says so."""
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK_KEY and isinstance(value, str) and value.isdecimal():
            return int(value[:9]) / 1000
    return None
