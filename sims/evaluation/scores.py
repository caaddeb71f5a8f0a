"""Every metric of every condition of one evaluation, with intervals over its users.

Shapes: B users, R resamples.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sims.evaluation.intervals import Interval, interval, resampled
from sims.evaluation.metrics import (
    METRICS,
    Population,
    Ratio,
    WorstGroup,
    coverage,
    harm,
    ratios_of,
    worst_group,
)
from sims.evaluation.outcomes import Outcomes

# What a harm is over, and under which conditions there is one.
HARMS: Final = {
    "harm_over_clean": ("clean", ("undefended", "defended")),
    "harm_over_clean_defended": ("clean_defended", ("defended",)),
}
# Metrics that are no sum over users.
WITHOUT_INTERVAL: Final = ("coverage", "hit_ratio_worst_group", "worst_group_size")

# Every key that has a value for each condition.
MEASURED: Final = (*METRICS, *WITHOUT_INTERVAL)


@final
class Scores:
    """Values and 95 % intervals, each computed when it is first asked for.

    outcomes    by condition or baseline, of the same users in the same order
    population  those users
    seed        of the resamples, which are the same for all conditions
    """

    def __init__(self, outcomes: Mapping[str, Outcomes], population: Population, seed: int) -> None:
        self.population = population
        self._outcomes, self._seed = outcomes, seed
        # By identity: without a defense two conditions are one.
        self._ratios: dict[int, dict[str, Ratio]] = {}
        self._draws: dict[int, dict[str, NDArray[np.float64]]] = {}

    @property
    def tail_users(self) -> int:
        """How many users have a held-out item of the tail."""
        first = next(iter(self._outcomes.values()))
        return int((first.asked & self.population.tail).sum())

    @property
    def group_count(self) -> int:
        """How many groups of like taste the users fall into."""
        return int(self.population.groups.max(initial=0)) + 1

    def worst_group(self, name: str) -> WorstGroup | None:
        """The group that the attack reaches most under a condition."""
        return worst_group(self._outcomes[name], self.population)

    def value(self, metric: str, name: str) -> float | None:
        """One metric under one condition; None where it is not defined there."""
        counts = self._outcomes[name].counts
        # As a fleet of devices computes them from the same sums, to the last digit.
        if metric == "hit_ratio":
            return counts.hit_ratio if counts.eligible else None
        if metric == "accuracy_thresholded":
            return counts.accuracy_thresholded
        if metric == "coverage":
            return coverage(self._outcomes[name])
        if metric in ("hit_ratio_worst_group", "worst_group_size"):
            worst = self.worst_group(name)
            if worst is None:
                return None
            return worst.size if metric == "worst_group_size" else worst.hit_ratio
        return self._ratios_of(name)[metric].value

    def interval(self, metric: str, name: str) -> Interval | None:
        """Of a metric that is a sum over users."""
        if self.value(metric, name) is None:
            return None
        return interval(self._draws_of(name)[metric])

    def harm(self, over: str, name: str) -> float | None:
        """How far the hit ratio went where the attacker wants it, from a condition to `name`."""
        before, after = self.value("hit_ratio", over), self.value("hit_ratio", name)
        return harm(before, after, self.population.goal)

    def harm_interval(self, over: str, name: str) -> Interval | None:
        """Of `harm`, from the same resamples of the users on both sides."""
        if self.harm(over, name) is None:
            return None
        gained = self._draws_of(name)["hit_ratio"] - self._draws_of(over)["hit_ratio"]
        return interval(gained if self.population.goal == "promote" else -gained)

    def told(self, name: str) -> dict[str, Any]:
        """All metrics of one condition or baseline, and `intervals` of those that have one."""
        values: dict[str, Any] = {metric: self.value(metric, name) for metric in MEASURED}
        intervals = {metric: _listed(self.interval(metric, name)) for metric in METRICS}
        return values | {"intervals": intervals}

    def by_metric(self, names: Iterable[str]) -> dict[str, dict[str, float | None]]:
        """Values of all metrics, by metric and then by condition."""
        chosen = list(names)
        return {metric: {name: self.value(metric, name) for name in chosen} for metric in MEASURED}

    def harms(self) -> dict[str, dict[str, float | None]]:
        """What the attack did to the hit ratio: its rise, or its fall where it demotes."""
        return {
            key: {name: self.harm(over, name) for name in names}
            for key, (over, names) in HARMS.items()
        }

    def intervals_by_metric(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Intervals of all metrics that have one, and of harms."""
        chosen = list(names)
        found = {
            metric: {name: _listed(self.interval(metric, name)) for name in chosen}
            for metric in METRICS
        }
        return found | {
            key: {name: _listed(self.harm_interval(over, name)) for name in names}
            for key, (over, names) in HARMS.items()
        }

    def _ratios_of(self, name: str) -> dict[str, Ratio]:
        outcomes = self._outcomes[name]
        if id(outcomes) not in self._ratios:
            self._ratios[id(outcomes)] = ratios_of(outcomes, self.population)
        return self._ratios[id(outcomes)]

    def _draws_of(self, name: str) -> dict[str, NDArray[np.float64]]:
        key = id(self._outcomes[name])
        if key not in self._draws:
            self._draws[key] = resampled(self._ratios_of(name), seed=self._seed)
        return self._draws[key]


def flat(values: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """A row of a table: `{"hit_ratio": {"clean": 0}}` becomes `{"hit_ratio_clean": 0}`."""
    row: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            row |= flat(value, f"{start}{name}_")
        else:
            row[start + name] = value
    return row


def _listed(found: Interval | None) -> list[float] | None:
    return None if found is None else list(found)
