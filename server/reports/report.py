"""One report of a device, checked by itself: its counts against the receipts that it shows.

Nothing here knows of other reports. Whether a receipt was counted before is for the tally.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.errors import InputError
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.messages import counts_from_wire
from common.wire.randomized import ANSWERS, is_epsilon
from common.wire.service import USERS_PER_REPORT


class ReportRefusedError(InputError):
    """A report that will never be counted; `reason` is a word for the metrics."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"report: {text}")
        self.reason = reason


class Receipt(NamedTuple):
    """What a genuine receipt says: whom an answer was for, when it was given, and a number.

    issued  seconds since 1970; nonce: random, signed, 64 bits
    """

    user: int
    issued: int
    nonce: int


@dataclass(frozen=True)
class RandomizedAnswers:
    """Randomized responses of one report: question and answer of each of its receipts."""

    epsilon: float
    questions: tuple[int, ...]
    answers: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """A report that was checked.

    counts      sums; of a randomized report only how users were answered, where it says so
    randomized  None: counts are exact
    fresh       receipts of packages just fetched and of the server's answers
    stale       receipts of packages kept from before
    shard       to which of the tally's shards it was dealt
    """

    version: str
    preset: str
    key: str
    counts: Counts
    randomized: RandomizedAnswers | None = None
    fresh: tuple[Receipt, ...] = ()
    stale: tuple[Receipt, ...] = ()
    shard: int = 0


def check_size(request: wire.ReportRequest) -> None:
    """Before anything costs time: one receipt a user. Raises ReportRefusedError."""
    receipts = len(request.receipts) + len(request.stale_receipts)
    if not receipts:
        raise ReportRefusedError(
            "receipts", "it shows no receipt of an answer: this server counts no others"
        )
    if receipts > USERS_PER_REPORT:
        raise ReportRefusedError(
            "receipts", f"{receipts} receipts, but {USERS_PER_REPORT} users at most are summed up"
        )


def check_users(users: Sequence[int]) -> None:
    """That one report can be of them. Raises ReportRefusedError."""
    if not 1 <= len(users) <= USERS_PER_REPORT or len(set(users)) != len(users):
        raise ReportRefusedError("users", f"it is of 1–{USERS_PER_REPORT} users, each of them once")


def checked_report(
    request: wire.ReportRequest,
    fresh: Sequence[Receipt],
    stale: Sequence[Receipt],
    *,
    allowed: range | None,
    shard: int = 0,
) -> Report:
    """A report whose counts are those of its receipts' users.

    fresh, stale  its receipts, which are genuine
    allowed       users of the bearer token; None: nobody was asked for one

    Raises ReportRefusedError.
    """
    users = [receipt.user for receipt in (*fresh, *stale)]
    if len(set(users)) != len(users):
        raise ReportRefusedError("users", "a user is in it twice")
    if allowed is not None and not all(user in allowed for user in users):
        raise ReportRefusedError("users", "a receipt in it is of a user of another token")
    randomized = None
    if request.HasField("randomized"):
        randomized = _randomized(request.randomized, len(users))
    try:
        counts = counts_from_wire(request.counts)
    except InputError as error:
        raise ReportRefusedError("counts", str(error).removeprefix("report: ")) from error
    told = (counts.on_device + counts.by_server, counts.stale)
    if not (told == (len(fresh), len(stale)) or (randomized and told == (0, 0))):
        raise ReportRefusedError(
            "counts",
            f"{told[0]} fresh and {told[1]} stale answers, but {len(fresh)} and {len(stale)} "
            "receipts of such",
        )
    if randomized and any((*counts.eligible, counts.users)):
        raise ReportRefusedError("counts", "counts and randomized answers; give one of them")
    if not counts.of_at_most(len(users)):
        raise ReportRefusedError("counts", f"counts of more users than its {len(users)} receipts")
    return Report(
        request.version,
        request.preset,
        request.key,
        counts,
        randomized,
        tuple(fresh),
        tuple(stale),
        shard,
    )


def _randomized(message: wire.Randomized, users: int) -> RandomizedAnswers:
    epsilon = message.epsilon
    if not is_epsilon(epsilon):
        raise ReportRefusedError("randomized", f"epsilon {epsilon:g}: give 0.1–10")
    if abs(100 * epsilon - round(100 * epsilon)) > 1e-6:
        raise ReportRefusedError("randomized", f"epsilon {epsilon:g}: give hundredths")
    if not len(message.questions) == len(message.answers) == users:
        raise ReportRefusedError("randomized", f"not one question and answer for each of {users}")
    if max(message.answers) >= ANSWERS:
        raise ReportRefusedError("randomized", f"answers are 0–{ANSWERS - 1}")
    return RandomizedAnswers(
        round(100 * epsilon) / 100, tuple(message.questions), tuple(message.answers)
    )
