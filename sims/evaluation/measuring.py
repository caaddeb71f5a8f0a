"""Robustness and accuracy of one experiment, in process, over all cores.

Each user is answered as a device would answer: neighborhood, fine-tuning, top K, counts.

Shapes: U users, K recommended items, t target items.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.device import answer
from client.stores.ratings import LocalRatings
from common.errors import VicinalError
from common.ranking import Counts, count_user, top_items
from common.ratings import RatingMatrix
from common.threads import limit_threads
from common.vicinal.settings import VicinalSettings
from server.recommending.recommender import Recommender
from sims.processes.pools import in_processes
from sims.progress import Report, counter, quiet

Condition = Literal["clean", "clean_defended", "undefended", "defended"]
# What a model was trained on.
Source = Literal["clean", "poisoned"]
BatchResult = tuple[Counts, list[float]]
# Small enough that progress moves, large enough that sending it costs nothing.
USERS_PER_TASK = 16


@dataclass(frozen=True)
class Measured:
    """Counts over users, and the seconds that each user took, [U]."""

    counts: Counts
    seconds: NDArray[np.float64]


@dataclass(frozen=True)
class EvaluationSetup:
    """What is evaluated: the models, what devices know, settings, and the items that are watched.

    robust  the models of the defended conditions where those are trained robustly
    rvd     whether the defended conditions fine-tune; else they are a robust model as it is
    """

    recommenders: dict[Source, Recommender]
    local: LocalRatings
    settings: VicinalSettings
    watched: tuple[int, ...]
    list_length: int
    robust: dict[Source, Recommender] | None = None
    rvd: bool = True

    def answer(self, condition: Condition, user: int) -> Counts:
        """One user's counts under one condition."""
        defended = condition in ("clean_defended", "defended")
        models = self.robust if defended and self.robust is not None else self.recommenders
        recommender = models["clean" if condition.startswith("clean") else "poisoned"]
        rated, held_out = self.local.train.items_of(user), self.local.held_out_of(user)
        if not (defended and self.rvd):
            items = recommender.recommend_undefended(user, self.list_length)
            return count_user(items, rated, self.watched, held_out)
        return answer(
            recommender.version,
            recommender.neighborhood(user, self.settings),
            self.settings,
            rated=rated,
            held_out=held_out,
            watched=self.watched,
            list_length=self.list_length,
        ).counts


_setup: EvaluationSetup | None = None


def _start_worker(setup: EvaluationSetup) -> None:
    global _setup  # noqa: PLW0603  # a worker process has one setup
    _setup = setup


def _measure_task(condition: Condition, users: list[int]) -> BatchResult:
    assert _setup is not None
    return _measure(_setup, condition, users)


def _measure(setup: EvaluationSetup, condition: Condition, users: list[int]) -> BatchResult:
    counts, seconds = Counts.none(len(setup.watched)), []
    for user in users:
        start = time.perf_counter()
        counts += setup.answer(condition, user)
        seconds.append(time.perf_counter() - start)
    return counts, seconds


def measure(
    setup: EvaluationSetup,
    conditions: Sequence[Condition],
    users: NDArray[np.int64],
    *,
    processes: int | None = None,
    progress: Report = quiet,
) -> dict[Condition, Measured]:
    """Answer every user under every condition; counts do not depend on `processes`.

    Raises VicinalError when a worker process dies.
    """
    calls = [(condition, part) for condition in conditions for part in _parts(users)]
    advance = counter(progress, "recommend", len(conditions) * len(users))
    try:
        results = in_processes(
            _measure_task,
            calls,
            processes=processes,
            start=_start_worker,
            arguments=(setup,),
            arrived=lambda answered: advance(len(answered[1])),
        )
    except BrokenProcessPool as error:
        raise VicinalError(
            "a worker process died, perhaps for want of memory: try fewer --processes"
        ) from error
    counts = dict.fromkeys(conditions, Counts.none(len(setup.watched)))
    seconds: dict[Condition, list[float]] = {condition: [] for condition in conditions}
    for (condition, _), (part_counts, part_seconds) in zip(calls, results, strict=True):
        counts[condition] += part_counts
        seconds[condition] += part_seconds
    return {
        condition: Measured(counts[condition], np.array(seconds[condition]))
        for condition in conditions
    }


def measure_here(
    setup: EvaluationSetup, conditions: Sequence[Condition], users: NDArray[np.int64]
) -> dict[Condition, Measured]:
    """What `measure` gives, in this process, for who runs many of them side by side."""
    limit_threads()
    measured = {}
    for condition in conditions:
        counts, seconds = _measure(setup, condition, users.tolist())
        measured[condition] = Measured(counts, np.array(seconds))
    return measured


def _parts(users: NDArray[np.int64]) -> Iterator[list[int]]:
    for start in range(0, len(users), USERS_PER_TASK):
        yield users[start : start + USERS_PER_TASK].tolist()


def popularity(
    ratings: RatingMatrix,
    local: LocalRatings,
    users: NDArray[np.int64],
    watched: tuple[int, ...],
    list_length: int,
) -> Counts:
    """The counts of recommending what most users of `ratings` rated."""
    scores = ratings.item_counts().astype(np.float32)
    counts = Counts.none(len(watched))
    for user in users.tolist():
        rated = local.train.items_of(user)
        items = top_items(scores, rated, list_length)
        counts += count_user(items, rated, watched, local.held_out_of(user))
    return counts
