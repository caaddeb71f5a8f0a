"""What lists were worth, from each user's outcome.

A metric is a sum over users of what they won, divided by the sum of what they could have won, so
that users can be drawn again for an interval (sims.evaluation.intervals). Metrics of target items
have a column a target, and their value is the mean over columns.

Each user has one held-out item at most. Recall@n is then the share of users whose first n items
hold it, and NDCG@n the mean of 1 / log₂(rank + 1) within them (Järvelin and Kekäläinen 2002,
"Cumulated Gain-Based Evaluation of IR Techniques", with one relevant item, whose ideal gain is 1).
MRR is the mean of 1 / rank (Voorhees 1999), 0 beyond the first L items.

Shapes: B users, c columns, t target items, I items, g groups.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.stores.ratings import LocalRatings
from common.ratings import RatingMatrix
from sims.attacks.budget import Goal
from sims.evaluation.groups import groups_of
from sims.evaluation.outcomes import NOTHING, Outcomes

# A held-out item with fewer ratings is of the tail.
TAIL: Final = 50


@dataclass(frozen=True)
class Population:
    """The users who were asked, as metrics tell them apart.

    groups  of like taste, from 0, [B]
    tail    whether the held-out item has fewer than 50 ratings by real users, [B]
    inside  whether the user is of the attack's audience, [B]; None where that is everybody
    goal    whether the attack promotes or demotes its targets
    """

    groups: NDArray[np.int64]
    tail: NDArray[np.bool_]
    inside: NDArray[np.bool_] | None = None
    goal: Goal = "promote"

    @classmethod
    def of(
        cls,
        users: NDArray[np.int64],
        local: LocalRatings,
        *,
        audience: tuple[int, ...] = (),
        goal: Goal = "promote",
    ) -> "Population":
        """Grouped by what they rated, without the held-out items."""
        return cls(
            groups_of(local.train.rows(users)),
            tail_items(local.train)[np.maximum(local.held_out[users], 0)],
            np.isin(users, audience) if audience else None,
            goal,
        )


def tail_items(ratings: RatingMatrix) -> NDArray[np.bool_]:
    """Whether each item has fewer than 50 ratings, [I]."""
    return ratings.item_counts() < TAIL


@dataclass(frozen=True)
class Ratio:
    """Σ won / Σ possible over users, averaged over those columns where something was possible.

    won, possible  [B, c]; nothing is won where nothing is possible
    """

    won: NDArray[np.float64]
    possible: NDArray[np.float64]

    @property
    def value(self) -> float | None:
        """None where nothing was possible."""
        return mean_share(self.won.sum(axis=0), self.possible.sum(axis=0))


def mean_share(won: NDArray[np.float64], possible: NDArray[np.float64]) -> float | None:
    """The mean of won / possible over columns, [c]; None where nothing was possible.

    >>> mean_share(np.array([1.0, 0.0, 0.0]), np.array([2.0, 2.0, 0.0]))
    0.25
    """
    some = possible > 0
    return float((won[some] / possible[some]).mean()) if some.any() else None


Measure = Callable[[Outcomes, Population], Ratio]


def _found(count: int | None) -> Measure:
    return lambda one, _: _one_column(one.found(count), one.asked)


def _hits(count: int | None) -> Measure:
    return lambda one, _: _ratio(one.hits(count), one.eligible)


def _ndcg(count: int) -> Measure:
    def measure(one: Outcomes, _: Population) -> Ratio:
        gains = 1 / np.log2(np.maximum(one.ranks, 1) + 1.0)
        return _one_column(np.where(one.found(count), gains, 0), one.asked)

    return measure


def _reciprocal_rank(one: Outcomes, _: Population) -> Ratio:
    return _one_column(np.where(one.ranks > 0, 1 / np.maximum(one.ranks, 1), 0), one.asked)


def _liked(one: Outcomes, _: Population) -> Ratio:
    return _one_column(one.found() & one.liked, one.liked)


def _tail(one: Outcomes, population: Population) -> Ratio:
    asked = one.asked & population.tail
    return _one_column(one.found() & asked, asked)


def _hits_of(*, inside: bool) -> Measure:
    def measure(one: Outcomes, population: Population) -> Ratio:
        if population.inside is None:
            return _ratio(np.zeros_like(one.hits()), np.zeros_like(one.eligible))
        here = (population.inside == inside)[:, None]
        return _ratio(one.hits() & here, one.eligible & here)

    return measure


def _unsupported(one: Outcomes, _: Population) -> Ratio:
    told = one.unsupported != NOTHING
    return _one_column(np.where(told, one.unsupported, 0), np.where(told, one.lengths, 0))


# What each is, in words: sims.evaluation.keys.
METRICS: Final[Mapping[str, Measure]] = {
    "hit_ratio": _hits(None),
    "hit_ratio_10": _hits(10),
    "hit_ratio_50": _hits(50),
    "hit_ratio_inside": _hits_of(inside=True),
    "hit_ratio_outside": _hits_of(inside=False),
    "accuracy": _found(None),
    "accuracy_thresholded": _liked,
    "accuracy_tail": _tail,
    "recall_10": _found(10),
    "recall_50": _found(50),
    "ndcg_10": _ndcg(10),
    "mrr": _reciprocal_rank,
    "unsupported_share": _unsupported,
}


def ratios_of(outcomes: Outcomes, population: Population) -> dict[str, Ratio]:
    """Every metric that is a sum over users."""
    return {name: measure(outcomes, population) for name, measure in METRICS.items()}


def coverage(outcomes: Outcomes) -> float | None:
    """Share of all items that somebody was shown; None where lists were not kept."""
    items = len(outcomes.shown)
    return int((outcomes.shown > 0).sum()) / items if items else None


@dataclass(frozen=True)
class WorstGroup:
    """The group that an attack reaches most: its hit ratio and how many users it has."""

    hit_ratio: float
    size: int


def worst_group(outcomes: Outcomes, population: Population) -> WorstGroup | None:
    """Of the highest hit ratio, or of the lowest where targets are demoted; None without targets.

    Of equal ones the largest.
    """
    hits, eligible = outcomes.hits().astype(np.float64), outcomes.eligible.astype(np.float64)
    sign = 1 if population.goal == "promote" else -1
    worst: WorstGroup | None = None
    for group, size in enumerate(np.bincount(population.groups).tolist()):
        here = population.groups == group
        ratio = mean_share(hits[here].sum(axis=0), eligible[here].sum(axis=0))
        if ratio is not None and (worst is None or sign * ratio > sign * worst.hit_ratio):
            worst = WorstGroup(ratio, size)
    return worst


def harm(before: float | None, after: float | None, goal: Goal) -> float | None:
    """How far a hit ratio went where the attacker wants it, from before to after.

    >>> harm(0.25, 0.75, "promote"), harm(0.25, 0.75, "demote")
    (0.5, -0.5)
    """
    if before is None or after is None:
        return None
    return after - before if goal == "promote" else before - after


def _ratio(won: NDArray[np.generic], possible: NDArray[np.generic]) -> Ratio:
    return Ratio(won.astype(np.float64), possible.astype(np.float64))


def _one_column(won: NDArray[np.generic], possible: NDArray[np.generic]) -> Ratio:
    return _ratio(won[:, None], possible[:, None])
