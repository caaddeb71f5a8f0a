"""Robustness and accuracy of one experiment, in process, over all cores.

Each user is answered as a device would answer: neighborhood, fine-tuning, top K, counts
(tests/test_paths_agree.py holds the two against each other).

Shapes: U users, I items, B users asked, K recommended items, L that are looked at, t target items.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from client.stores.ratings import LocalRatings
from common.ranking import Counts, count_user, top_items
from common.ratings import RatingMatrix
from common.threads import limit_threads
from common.vicinal.settings import Space, VicinalSettings
from sims.evaluation.outcomes import NOTHING, Outcomes, Ranks, reach_of
from sims.processes.workers import ALL_CORES, HERE, Workers
from sims.progress import Report, counter, quiet

Condition = Literal["clean", "clean_defended", "undefended", "defended"]
# What a model was trained on.
Source = Literal["clean", "poisoned"]
# Of B users: recommended items [B, L], how many of each list had no support [B], seconds.
BatchResult = tuple[Ranks, Ranks, list[float]]
# Small enough that progress moves, large enough that sending it costs nothing.
USERS_PER_TASK = 16


class Measurable(Protocol):
    """A trained model that can be asked: server.recommending's Recommender or GenericVicinal."""

    @property
    def ratings(self) -> RatingMatrix:
        """What it was trained on, real users first."""
        ...

    @property
    def user_count(self) -> int:
        """Real users."""
        ...

    def recommend(
        self, user: int, settings: VicinalSettings, list_length: int
    ) -> NDArray[np.int64]:
        """The top K after fine-tuning for a user, best first."""
        ...

    def recommend_undefended(self, user: int, list_length: int) -> NDArray[np.int64]:
        """The top K of the model as it is, best first."""
        ...

    def nearest(
        self, users: NDArray[np.int64], count: int, space: Space = "embedding"
    ) -> NDArray[np.int64]:
        """Indices of the nearest users in a space, itself first, [B, k]."""
        ...


@runtime_checkable
class Supporting(Protocol):
    """A Measurable that also tells which items its defense had support for."""

    def supported(self, user: int, settings: VicinalSettings) -> NDArray[np.bool_]:
        """Whether each item was rated by enough of the neighbors, [I]."""
        ...


@dataclass(frozen=True)
class Measured:
    """What came of asking, and the seconds that each user took, [B]."""

    outcomes: Outcomes
    seconds: NDArray[np.float64]

    @property
    def counts(self) -> Counts:
        """Sums over users."""
        return self.outcomes.counts


@dataclass(frozen=True)
class EvaluationSetup:
    """What is evaluated: the models, what devices know, settings, and the items that are watched.

    robust  the models of the defended conditions where those are trained robustly
    rvd     whether the defended conditions fine-tune; else they are a robust model as it is
    """

    recommenders: Mapping[Source, Measurable]
    local: LocalRatings
    settings: VicinalSettings
    watched: tuple[int, ...]
    list_length: int
    robust: Mapping[Source, Measurable] | None = None
    rvd: bool = True

    def answer(self, condition: Condition, user: int) -> Counts:
        """One user's counts under one condition."""
        items = self.recommended(condition, user)[: self.list_length]
        rated, held_out = self.local.train.items_of(user), self.local.held_out_of(user)
        return count_user(items, rated, self.watched, held_out)

    def recommended(self, condition: Condition, user: int) -> NDArray[np.int64]:
        """The first L items, best first; fewer where a user has not so many left."""
        recommender, tuned = self._asked(condition)
        reach = reach_of(self.list_length)
        if tuned:
            return recommender.recommend(user, self.settings, reach)
        return recommender.recommend_undefended(user, reach)

    def unsupported(self, condition: Condition, user: int, items: NDArray[np.int64]) -> int:
        """How many of the first K had no support; −1 where nothing tells."""
        recommender, tuned = self._asked(condition)
        if not tuned or not isinstance(recommender, Supporting):
            return NOTHING
        supported = recommender.supported(user, self.settings)
        return int((~supported[items[: self.list_length]]).sum())

    def outcomes(self, users: NDArray[np.int64], lists: Ranks, unsupported: Ranks) -> Outcomes:
        """From what was recommended to users."""
        return Outcomes.of(users, lists, self.local, self.watched, self.list_length, unsupported)

    def _asked(self, condition: Condition) -> tuple[Measurable, bool]:
        """The model of a condition, and whether it is fine-tuned."""
        defended = condition in ("clean_defended", "defended")
        models = self.robust if defended and self.robust is not None else self.recommenders
        source: Source = "clean" if condition.startswith("clean") else "poisoned"
        return models[source], defended and self.rvd


def _measure(setup: EvaluationSetup, condition: Condition, users: list[int]) -> BatchResult:
    lists = np.full((len(users), reach_of(setup.list_length)), NOTHING, dtype=np.int32)
    unsupported, seconds = np.empty(len(users), dtype=np.int32), []
    for row, user in enumerate(users):
        start = time.perf_counter()
        items = setup.recommended(condition, user)
        seconds.append(time.perf_counter() - start)
        lists[row, : len(items)] = items
        unsupported[row] = setup.unsupported(condition, user, items)
    return lists, unsupported, seconds


def measure(
    setup: EvaluationSetup,
    conditions: Sequence[Condition],
    users: NDArray[np.int64],
    *,
    workers: Workers = ALL_CORES,
    progress: Report = quiet,
) -> dict[Condition, Measured]:
    """Answer every user under every condition; counts do not depend on who does it.

    Raises VicinalError when a worker process dies.
    """
    calls = [(condition, part) for condition in conditions for part in _parts(users)]
    advance = counter(progress, "recommend", len(conditions) * len(users))
    results = workers.each(
        _measure, calls, arguments=(setup,), arrived=lambda answered: advance(len(answered[2]))
    )
    parts: dict[Condition, list[BatchResult]] = {condition: [] for condition in conditions}
    for (condition, _), result in zip(calls, results, strict=True):
        parts[condition].append(result)
    return {condition: _measured(setup, users, parts[condition]) for condition in conditions}


def measure_here(
    setup: EvaluationSetup,
    conditions: Sequence[Condition],
    users: NDArray[np.int64],
    *,
    progress: Report = quiet,
) -> dict[Condition, Measured]:
    """What `measure` gives, in this process: for who runs many of them side by side, and for
    models that another process could not load.
    """
    limit_threads()
    return measure(setup, conditions, users, workers=HERE, progress=progress)


def _measured(
    setup: EvaluationSetup, users: NDArray[np.int64], parts: Sequence[BatchResult]
) -> Measured:
    """Of all users, from what was found part by part."""
    empty = np.empty((0, reach_of(setup.list_length)), dtype=np.int32)
    lists = np.concatenate([empty, *(part[0] for part in parts)])
    unsupported = np.concatenate([empty[:, 0], *(part[1] for part in parts)])
    seconds = np.array([each for part in parts for each in part[2]], dtype=np.float64)
    return Measured(setup.outcomes(users, lists, unsupported), seconds)


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
    return ranked(lambda _user: scores, local, users, watched, list_length).counts


def ranked(
    scores: Callable[[int], NDArray[np.float32]],
    local: LocalRatings,
    users: NDArray[np.int64],
    watched: tuple[int, ...],
    list_length: int,
) -> Outcomes:
    """What comes of recommending by a function from a user to scores of all items, [I]."""
    lists = np.full((len(users), reach_of(list_length)), NOTHING, dtype=np.int32)
    for row, user in zip(lists, users.tolist(), strict=True):
        items = top_items(scores(user), local.train.items_of(user), len(row))
        row[: len(items)] = items
    return Outcomes.of(users, lists, local, watched, list_length)
