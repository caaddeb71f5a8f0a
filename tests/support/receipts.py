"""Receipts for tests: of answers that nobody computed."""

import time
from collections.abc import Sequence
from itertools import count
from typing import Final

from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.messages import counts_to_wire
from server.reports.report import Receipt
from server.trust.receipts import Receipts

# Of servers in processes of their own.
KEY: Final = b"k" * 32
_nonces = count()


def receipt(user: int) -> Receipt:
    """One of now that was verified; never the same twice."""
    return Receipt(user, int(time.time()), next(_nonces))


def receipts_for(
    receipts: Receipts, version: str, preset: str, users: Sequence[int]
) -> list[bytes]:
    return [receipts.issue(version, preset, user) for user in users]


def report_request(
    receipts: Receipts,
    version: str,
    preset: str,
    key: str,
    users: Sequence[int],
    *,
    hits: int = 0,
    stale: Sequence[int] = (),
    watched: int = 2,
) -> wire.ReportRequest:
    """A good report: all have a held-out item, and of each watched item `hits` see it."""
    both = len(users) + len(stale)
    counts = Counts(
        (both,) * watched, (hits,) * watched, both, hits, on_device=len(users), stale=len(stale)
    )
    return wire.ReportRequest(
        version=version,
        preset=preset,
        key=key,
        counts=counts_to_wire(counts),
        receipts=receipts_for(receipts, version, preset, users),
        stale_receipts=receipts_for(receipts, version, preset, stale),
    )
