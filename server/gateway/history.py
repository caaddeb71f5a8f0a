"""What the live page shows over time, from scrapes of the server's metrics.

A scrape has counters since the server started. What happened between two of them is their
difference; a server that was started anew begins again at 0, and then the later one is all.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from prometheus_client.parser import text_string_to_metric_families

# An hour, every five seconds; and the steps of reports that are remembered.
MOST_POINTS: Final = 720
MOST_STEPS: Final = 500
# Of the scrapes over which the table of stages is taken: five minutes.
STAGES_OVER: Final = 60
CALLS: Final = ("Recommend", "GetPackage", "Explain")
# 95 % of a normal distribution lie so many standard deviations about its mean.
Z: Final = 1.959964

_GOOD: Final = ("OK", "CANCELLED")
_HOW: Final = ("defended", "undefended")
# What a survey has to have (server.recommending.survey.Survey).
SURVEYED: Final = (
    *("users", "new_accounts", "new_neighbors", "new_neighbors_error", "hub_neighbors"),
    *("eligible", "hits_defended", "hits_undefended"),
    *("held_out", "found_defended", "found_undefended", "common"),
)

Buckets = dict[float, float]
About = tuple[str, str]


@dataclass
class Scrape:
    """The numbers of one scrape.

    calls     ended, by call and status
    stages    by call and stage, counts up to each bound
    reported  by version and preset, sums as published
    survey    by version and preset
    """

    at: float
    calls: dict[About, float] = field(default_factory=dict)
    stages: dict[About, Buckets] = field(default_factory=dict)
    reported: dict[About, dict[str, float]] = field(default_factory=dict)
    survey: dict[About, dict[str, float]] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)


def scraped(text: str, at: float) -> Scrape:
    """Raises ValueError for what is no text of Prometheus."""
    found = Scrape(at)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name, labels, value = sample.name, sample.labels, float(sample.value)
            if not math.isfinite(value):
                continue
            if name == "vicinal_requests_total":
                found.calls[labels["call"], labels["status"]] = value
            elif name == "vicinal_stage_seconds_bucket":
                about = labels["call"], labels["stage"]
                found.stages.setdefault(about, {})[float(labels["le"])] = value
            elif name in ("vicinal_reported", "vicinal_survey"):
                table = found.reported if name == "vicinal_reported" else found.survey
                own = table.setdefault((labels["version"], labels["preset"]), {})
                own[labels["what"]] = value
            elif not labels:
                found.gauges[name] = value
    return found


def since(before: Mapping[float, float], after: Mapping[float, float]) -> Buckets:
    """Counts up to each bound between two scrapes."""
    own = {bound: value - before.get(bound, 0.0) for bound, value in after.items()}
    return dict(after) if any(value < 0 for value in own.values()) else own


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Seconds below which a share of the calls lies, evenly spread within a bucket; None: no calls.

    What lies above the last finite bound is told as that bound.

    >>> quantile({1.0: 10, 2.0: 20, math.inf: 20}, 0.75)
    1.5
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank, low, below = share * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank and count > below:
            if math.isinf(bound):
                return low
            return low + (bound - low) * max(0.0, rank - below) / (count - below)
        low, below = (low if math.isinf(bound) else bound), max(below, count)
    return low


def wilson(hits: float, count: float) -> tuple[float, float] | None:
    """The 95 % interval of a share (E. B. Wilson, JASA 22 (1927) 209–212); None of nothing.

    >>> [round(end, 3) for end in wilson(0, 100)]
    [0.0, 0.037]
    """
    if count <= 0:
        return None
    share = min(1.0, max(0.0, hits / count))
    center = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count)
    half *= math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    # What was seen lies within it, whatever rounding does.
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))


@final
class History:
    """Scrapes, and what follows from them."""

    def __init__(self) -> None:
        self._scrapes: deque[Scrape] = deque(maxlen=STAGES_OVER)
        self._points: deque[dict[str, Any]] = deque(maxlen=MOST_POINTS)
        self._steps: deque[dict[str, Any]] = deque(maxlen=MOST_STEPS)
        self._told: dict[About, dict[str, float]] = {}
        self._surveys: dict[About, dict[str, float]] = {}

    def add(self, scrape: Scrape, watched: int) -> None:
        """One more, later than all before. `watched`: how many items' hit ratio is measured."""
        if self._scrapes:
            self._points.append(_point(self._scrapes[-1], scrape))
        self._scrapes.append(scrape)
        for about, sums in scrape.reported.items():
            before = self._told.get(about, {})
            if sums.get("reports", 0.0) > before.get("reports", 0.0):
                self._steps.append(_step(scrape.at, about, before, sums, watched))
            self._told[about] = sums
        # Versions stay when the server has dropped them: drift is seen beside them.
        for about, numbers in scrape.survey.items():
            if all(name in numbers for name in SURVEYED):
                self._surveys[about] = numbers
        while len(self._surveys) > MOST_STEPS:
            del self._surveys[next(iter(self._surveys))]

    def told(self) -> dict[str, Any]:
        """All of it, for JSON."""
        last = self._scrapes[-1] if self._scrapes else None
        return {
            "points": list(self._points),
            "stages": _stages(self._scrapes),
            "reports": list(self._steps),
            "surveys": [
                {"version": version, "preset": preset, **survey_told(numbers)}
                for (version, preset), numbers in self._surveys.items()
            ],
            "scraped": None if last is None else last.at,
        }


def _point(before: Scrape, after: Scrape) -> dict[str, Any]:
    seconds = max(1e-3, after.at - before.at)
    ended = since_calls(before.calls, after.calls)
    whole: Buckets = {}
    for call in CALLS:
        about = (call, "whole")
        for bound, count in since(
            before.stages.get(about, {}), after.stages.get(about, {})
        ).items():
            whole[bound] = whole.get(bound, 0.0) + count
    of_workers = {key: count for key, count in ended.items() if key[0] in CALLS}
    return {
        "at": after.at,
        "per_second": sum(ended.values()) / seconds,
        "answers_per_second": sum(c for (_, s), c in of_workers.items() if s == "OK") / seconds,
        "refused_per_second": sum(c for (_, s), c in ended.items() if s not in _GOOD) / seconds,
        "p50": quantile(whole, 0.5),
        "p99": quantile(whole, 0.99),
        "queue": after.gauges.get("vicinal_queue_depth"),
        "workers": after.gauges.get("vicinal_workers_alive"),
        "lost": after.gauges.get("vicinal_workers_lost"),
    }


def since_calls(before: Mapping[About, float], after: Mapping[About, float]) -> dict[About, float]:
    """Calls that ended between two scrapes."""
    own = {key: count - before.get(key, 0.0) for key, count in after.items()}
    return dict(after) if any(count < 0 for count in own.values()) else own


def _stages(scrapes: Sequence[Scrape]) -> list[dict[str, Any]]:
    """p50 and p99 of every stage, over the scrapes that are remembered."""
    if len(scrapes) < 2:
        return []
    first, last = scrapes[0], scrapes[-1]
    told = []
    for (call, stage), buckets in last.stages.items():
        own = since(first.stages.get((call, stage), {}), buckets)
        count = own.get(math.inf, 0.0)
        if count:
            told.append(
                {
                    "call": call,
                    "stage": stage,
                    "calls": count,
                    "p50": quantile(own, 0.5),
                    "p99": quantile(own, 0.99),
                }
            )
    return told


def _step(
    at: float, about: About, before: Mapping[str, float], sums: Mapping[str, float], watched: int
) -> dict[str, Any]:
    """What the reports between two published sums say, and all of them."""

    def new(what: str) -> float:
        return max(0.0, sums.get(what, 0.0) - before.get(what, 0.0))

    # As if what a user is shown of the watched items went together: the wider interval.
    shown_to = new("eligible") / max(1, watched)
    return {
        "at": at,
        "version": about[0],
        "preset": about[1],
        "reports": sums.get("reports", 0.0),
        "hit_ratio": _ratio(new("hits"), new("eligible"), shown_to),
        "accuracy": _ratio(new("user_hits"), new("users"), new("users")),
    }


def _ratio(hits: float, of: float, users: float) -> dict[str, float] | None:
    """A share with its interval, from so many independent users; None where there are none."""
    if of <= 0:
        return None
    interval = wilson(hits / of * users, users)
    if interval is None:
        return None
    return {"value": hits / of, "low": interval[0], "high": interval[1], "users": users}


def survey_told(numbers: Mapping[str, float]) -> dict[str, Any]:
    """A survey, with intervals and the lift of new accounts."""
    users = numbers["users"]
    share, error = numbers["new_neighbors"], numbers["new_neighbors_error"]
    accounts = numbers["new_accounts"]
    shown_to = min(users, numbers["eligible"])
    lift = None
    if accounts > 0:
        ends = (max(0.0, share - Z * error), share, share + Z * error)
        lift = dict(zip(("low", "value", "high"), (end / accounts for end in ends), strict=True))
    return {
        "users": users,
        "new_accounts": accounts,
        "new_neighbors": share,
        "lift": lift,
        "hub_neighbors": numbers["hub_neighbors"],
        "common": numbers["common"],
        "hit_ratio": {
            how: _ratio(numbers[f"hits_{how}"], numbers["eligible"], shown_to) for how in _HOW
        },
        "accuracy": {
            how: _ratio(numbers[f"found_{how}"], numbers["held_out"], numbers["held_out"])
            for how in _HOW
        },
    }
