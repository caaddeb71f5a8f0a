"""Recommenders that nobody defends, beside every result: what one would have without the bench.

They are fitted to the ratings that the attacked server has, and answer as it would.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.stores.ratings import LocalRatings
from common.errors import InputError
from common.names import unknown
from common.ratings import RatingMatrix
from server.baselines import BASELINES, Scorer
from sims.evaluation.measuring import Measured, ranked

POPULARITY: Final = "popularity"
# Beside every result unless others are asked for: they take seconds.
USUAL: Final = (POPULARITY, "userknn", "ease")


def baselines_named(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """`none`, `all`, `userknn,ease` or a list of names; None is popularity, userknn and ease.

    In the order of the registry, each once. Raises InputError for an unknown name.
    """
    if names is None:
        return USUAL
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",")]
    chosen = list(names)
    if chosen in (["none"], []):
        return ()
    if chosen == ["all"]:
        return tuple(BASELINES)
    for name in chosen:
        if name not in BASELINES:
            raise unknown("baseline", str(name), BASELINES, more=", none or all")
    return tuple(name for name in BASELINES if name in chosen)


def measure_baseline(
    name: str,
    ratings: RatingMatrix,
    local: LocalRatings,
    users: NDArray[np.int64],
    watched: tuple[int, ...],
    list_length: int,
) -> Measured:
    """What comes of a baseline's answers; its seconds are the mean user's, fitting aside.

    ratings  real users first, and then fakes

    Raises InputError where the ratings are too many for it.
    """
    fit: Callable[[RatingMatrix], Scorer] = BASELINES[name]
    scorer = fit(ratings)
    start = time.perf_counter()
    outcomes = ranked(scorer.scores, local, users, watched, list_length)
    seconds = (time.perf_counter() - start) / max(len(users), 1)
    return Measured(outcomes, np.full(len(users), seconds))


def refused(name: str, error: InputError) -> str:
    """A line for a baseline that is left out."""
    return f"baseline {name} is left out: {error}"
