"""What was counted for one model version and preset; as text for a file, and as a message."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from common.errors import InputError
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.messages import counts_from_wire, counts_to_wire
from common.wire.randomized import ANSWERS

# Into so many reports are dealt, by whose they are.
SHARDS: Final = 32

# A number of reports, and their sum.
Shards = dict[int, tuple[int, Counts]]


@dataclass(frozen=True)
class Sums:
    """reports: how many; counts: their sum; shards: the same of each that has any, by number;
    randomized: by ε, three numbers a question, how often each was answered.
    """

    reports: int
    counts: Counts
    shards: Shards = field(default_factory=dict)
    randomized: dict[float, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def none(cls, watched: int) -> "Sums":
        return cls(0, Counts.none(watched))


def counts_text(counts: Counts) -> str:
    return json.dumps(_listed(counts))


def counts_from_text(text: str) -> Counts:
    """Raises ValueError, TypeError for anything but what counts_text() writes."""
    return _counts(json.loads(text))


def sums_text(sums: Sums) -> str:
    shards = [[shard, reports, _listed(counts)] for shard, (reports, counts) in sums.shards.items()]
    randomized = [[epsilon, answers] for epsilon, answers in sums.randomized.items()]
    return json.dumps([sums.reports, _listed(sums.counts), shards, randomized])


def sums_from_text(text: str) -> Sums:
    """Raises ValueError, TypeError for anything but what sums_text() writes."""
    reports, counts, shards, randomized = json.loads(text)
    return Sums(
        int(reports),
        _counts(counts),
        {int(shard): (int(count), _counts(part)) for shard, count, part in shards},
        {float(epsilon): tuple(map(int, answers)) for epsilon, answers in randomized},
    )


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
    counts, watched = counts_from_wire(message.counts), len(message.counts.eligible)
    if any(len(one.answers) != ANSWERS * (watched + 1) for one in message.randomized):
        raise InputError("tally: randomized answers are not of as many questions as items")
    shards = {
        number: (shard.reports, counts_from_wire(shard.counts))
        for number, shard in enumerate(message.shards)
        if shard.reports
    }
    randomized = {one.epsilon: tuple(one.answers) for one in message.randomized}
    return Sums(message.reports, counts, shards, randomized)


def _listed(counts: Counts) -> list[Any]:
    ways = (counts.on_device, counts.stale, counts.by_server)
    people = (counts.users, counts.user_hits, counts.liked, counts.liked_hits)
    return [counts.eligible, counts.hits, *people, *ways]


def _counts(listed: Any) -> Counts:
    eligible, hits, *people = listed
    return Counts(tuple(map(int, eligible)), tuple(map(int, hits)), *map(int, people))
