"""What was counted for one model version and preset; as text for a file, and as a message."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from common.errors import InputError
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.messages import counts_from_wire, counts_to_wire
from common.wire.randomized import ANSWERS, is_epsilon

# Into so many reports are dealt, by whose they are.
SHARDS: Final = 32

# A number of reports, and their sum.
Shards = dict[int, tuple[int, Counts]]


@dataclass(frozen=True)
class Sums:
    """reports: how many; counts: their sum; shards: the same of each that has any, by number;
    randomized: by ε, three numbers a question, how often each was answered.

    Raises ValueError where these are not of one number of watched items, or no such sums.
    """

    reports: int
    counts: Counts
    shards: Shards = field(default_factory=dict)
    randomized: dict[float, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        watched = len(self.counts.eligible)
        if min(self.reports, *(reports for reports, _ in self.shards.values()), 0) < 0:
            raise ValueError("a negative number of reports")
        parts = [len(counts.eligible) for _, counts in self.shards.values()]
        if not (set(self.shards) <= set(range(SHARDS)) and set(parts) <= {watched}):
            raise ValueError("shards that are none, or of other items")
        for epsilon, answers in self.randomized.items():
            if not is_epsilon(epsilon) or len(answers) != ANSWERS * (watched + 1):
                raise ValueError("randomized answers of an ε or of questions that there are not")

    @classmethod
    def none(cls, watched: int) -> "Sums":
        return cls(0, Counts.none(watched))


def counts_text(counts: Counts) -> str:
    return json.dumps(_listed(counts))


def counts_from_text(text: str) -> Counts:
    """Raises ValueError, TypeError for anything but what counts_text() writes."""
    return _counts(loaded(text))


def sums_text(sums: Sums) -> str:
    shards = [[shard, reports, _listed(counts)] for shard, (reports, counts) in sums.shards.items()]
    randomized = [[epsilon, answers] for epsilon, answers in sums.randomized.items()]
    return json.dumps([sums.reports, _listed(sums.counts), shards, randomized])


def sums_from_text(text: str) -> Sums:
    """Raises ValueError, TypeError for anything but what sums_text() writes."""
    reports, counts, shards, randomized = loaded(text)
    return Sums(
        _whole(reports),
        _counts(counts),
        {_whole(shard): (_whole(count), _counts(part)) for shard, count, part in shards},
        {float(epsilon): tuple(map(_whole, answers)) for epsilon, answers in randomized},
    )


def answers_from_text(text: str) -> tuple[int, ...]:
    """Randomized answers. Raises ValueError, TypeError for anything else."""
    return tuple(map(_whole, loaded(text)))


def loaded(text: str) -> Any:
    """What JSON says. Raises ValueError, TypeError, whatever it is."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def sums_to_wire(sums: Sums) -> wire.TallyReply:
    """Shards in order, those without a report too; none when none are told."""
    nothing = Counts.none(len(sums.counts.eligible))
    shards = [sums.shards.get(shard, (0, nothing)) for shard in range(SHARDS if sums.shards else 0)]
    return wire.TallyReply(
        reports=sums.reports,
        counts=counts_to_wire(sums.counts),
        shards=[
            wire.Shard(reports=reports, counts=counts_to_wire(part)) for reports, part in shards
        ],
        randomized=[
            wire.RandomizedSum(epsilon=epsilon, answers=answers)
            for epsilon, answers in sums.randomized.items()
        ],
    )


def sums_from_wire(message: wire.TallyReply) -> Sums:
    """Raises InputError for what sums_to_wire() does not write."""
    counts = counts_from_wire(message.counts)
    shards = {
        number: (shard.reports, counts_from_wire(shard.counts))
        for number, shard in enumerate(message.shards)
        if shard.reports
    }
    randomized = {one.epsilon: tuple(one.answers) for one in message.randomized}
    try:
        return Sums(message.reports, counts, shards, randomized)
    except ValueError as error:
        raise InputError(f"tally: {error}") from error


def _listed(counts: Counts) -> list[Any]:
    ways = (counts.on_device, counts.stale, counts.by_server)
    people = (counts.users, counts.user_hits, counts.liked, counts.liked_hits)
    return [counts.eligible, counts.hits, *people, *ways]


def _counts(listed: Any) -> Counts:
    eligible, hits, *people = listed
    return Counts(tuple(map(_whole, eligible)), tuple(map(_whole, hits)), *map(_whole, people))


def _whole(number: Any) -> int:
    """Raises ValueError for what is no count, as a number with a point or without an end."""
    if type(number) is not int or not 0 <= number < 1 << 63:
        raise ValueError(f"{str(number)[:20]!r} is no count")
    return number
