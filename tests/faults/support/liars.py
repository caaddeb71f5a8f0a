"""Devices that lie in their reports: forged, repeated, oversized, of other users, impossible.

Each lie is made of a report that would be counted, and must be refused for what it is.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from client.link.connection import pushback
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.messages import counts_to_wire
from common.wire.offload_pb2_grpc import OffloadStub
from tests.faults.support.ledger import Ledger, counts_entry

USERS: Final = 3


def swapped(request: wire.ReportRequest) -> None:
    del request.stale_receipts[:]
    request.stale_receipts.append(request.receipts.pop())
    request.receipts.append(request.stale_receipts[0])


def with_one_item(request: wire.ReportRequest, eligible: int, hits: int) -> None:
    """Wrong where the server watches another number of items, too."""
    watched = max(1, len(request.counts.eligible))
    request.counts.eligible[:] = [eligible] * watched
    request.counts.hits[:] = [hits] * watched


def silent(request: wire.ReportRequest) -> None:
    request.counts.on_device = request.counts.stale = 0


def without_receipts(request: wire.ReportRequest) -> None:
    del request.receipts[:], request.stale_receipts[:]


LIES: dict[str, Callable[[wire.ReportRequest], object]] = {
    "nobody says how it was answered": silent,
    "all were answered in two ways": lambda one: one.counts.MergeFrom(wire.Counts(by_server=2)),
    "more users than receipts": lambda one: one.counts.MergeFrom(wire.Counts(users=40)),
    "more eligible than receipts": lambda one: with_one_item(one, 4, 0),
    "more hits than eligible": lambda one: with_one_item(one, 1, 4),
    "2**64 - 1 users": lambda one: one.counts.MergeFrom(wire.Counts(users=2**64 - 1)),
    "stale counted as fresh": lambda one: one.counts.MergeFrom(wire.Counts(stale=0, on_device=3)),
    "other watched items": lambda one: one.counts.eligible.append(1),
    "no receipts": without_receipts,
    "a receipt of nothing": lambda one: one.receipts.__setitem__(0, b""),
    "a receipt that is cut off": lambda one: one.receipts.__setitem__(0, one.receipts[0][:-1]),
    "a receipt of another user": lambda one: one.receipts.__setitem__(
        0, b"\1\0\0\0" + one.receipts[0][4:]
    ),
    "a receipt twice": lambda one: one.receipts.__setitem__(0, one.receipts[1]),
    "a receipt as fresh and stale": swapped,
    "a key of megabytes": lambda one: setattr(one, "key", "k" * 100_000),
    "no key": lambda one: one.ClearField("key"),
    "counts and randomized answers": lambda one: one.randomized.MergeFrom(
        wire.Randomized(epsilon=1, questions=[0, 1, 2], answers=[0, 1, 2])
    ),
}


@dataclass
class Lies:
    """What became of them; taken: those that the server counted, or did not refuse clearly."""

    told: int = 0
    taken: list[str] = field(default_factory=list)


def tell_lies(address: str, preset: str, ledger: Ledger, *, seconds: float) -> Lies:
    """Fetch packages, report their users once as they are, then in every wrong way.

    ledger  gets the honest report, which is to be counted once
    """
    found = Lies()
    with grpc.insecure_channel(address) as channel:
        stub, end = OffloadStub(channel), time.monotonic() + seconds
        said = _asked(stub.Describe, wire.DescribeRequest(), end)
        packages = [
            _asked(
                stub.GetPackage,
                wire.PackageRequest(version=said.version, user=user, preset=preset),
                end,
            )
            for user in range(USERS)
        ]
        counts = Counts(
            (1,) * len(said.watched_items),
            (0,) * len(said.watched_items),
            on_device=2,
            stale=1,
        )
        honest = wire.ReportRequest(
            version=said.version,
            preset=preset,
            key=secrets.token_hex(16),
            counts=counts_to_wire(counts),
            receipts=[one.receipt for one in packages[:2]],
            stale_receipts=[packages[2].receipt],
        )
        for name, lie in LIES.items():
            _tell(stub, found, name, _copy(honest, lie), end)
        about = {"version": said.version, "counts": counts_entry(counts)}
        ledger.write("made", key=honest.key, **about)
        ledger.write("kept", key=honest.key)
        ledger.write("counted", key=honest.key, new=_asked(stub.Report, honest, end).counted)
        for _ in range(USERS):
            _tell(stub, found, "receipts that were counted", _copy(honest, _other_key), end)
            again = _asked(stub.Report, honest, end)
            found.taken += ["the same report again"] if again.counted else []
    return found


def _copy(
    honest: wire.ReportRequest, lie: Callable[[wire.ReportRequest], object]
) -> wire.ReportRequest:
    request = wire.ReportRequest()
    request.CopyFrom(honest)
    _other_key(request)
    lie(request)
    return request


def _other_key(request: wire.ReportRequest) -> None:
    request.key = secrets.token_hex(16)


def _tell(stub: Any, found: Lies, name: str, lie: wire.ReportRequest, end: float) -> None:
    found.told += 1
    try:
        _asked(stub.Report, lie, end)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
            return
        name = f"{name}: {error.code().name} {error.details()}"
    found.taken.append(name)


def _asked(method: Callable[..., Any], request: object, end: float) -> Any:
    """Again and again while there is no server, or none with time."""
    pause = 0.1
    while True:
        try:
            return method(request, timeout=max(0.1, end - time.monotonic()))
        except grpc.RpcError as error:
            again = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
            if error.code() not in again or time.monotonic() > end:
                raise
            time.sleep(pushback(error) or pause)
