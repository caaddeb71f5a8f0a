"""What was counted for one model version and preset, and as text for the tally file."""

import json
from dataclasses import dataclass, field
from typing import Any

from common.ranking import Counts

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


def _listed(counts: Counts) -> list[Any]:
    ways = (counts.on_device, counts.stale, counts.by_server)
    people = (counts.users, counts.user_hits, counts.liked, counts.liked_hits)
    return [counts.eligible, counts.hits, *people, *ways]


def _counts(listed: Any) -> Counts:
    eligible, hits, *people = listed
    return Counts(tuple(map(int, eligible)), tuple(map(int, hits)), *map(int, people))
