"""One user's answer on the device: fine-tune, rank, count; and whether that takes too long."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from common.errors import VicinalError
from common.ranking import Counts, HeldOutItem, count_user, top_items
from common.ratings import RatingMatrix
from common.versions.version import ModelVersion
from common.vicinal.book import BookReader
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings
from common.vicinal.tuning import tuned_scores

_REMEMBERED: Final = 5
_LEAST: Final = 3
# One of so many answers is made here all the same, to see whether the device is still slow.
_MEASURED_AGAIN: Final = 25


class Answer(NamedTuple):
    """A user's top K, best first, which stays on the device, and its counts, which are reported."""

    items: NDArray[np.int64]
    counts: Counts


def answer(
    version: ModelVersion,
    neighborhood: Neighborhood,
    settings: VicinalSettings,
    *,
    rated: NDArray[np.int32],
    held_out: HeldOutItem | None,
    watched: tuple[int, ...],
    list_length: int,
) -> Answer:
    """Recommend to one user and count what evaluation wants to know."""
    with careful():
        scores = tuned_scores(version.served, neighborhood, settings)
    return ranked(
        scores,
        rated=rated,
        held_out=held_out,
        watched=watched,
        list_length=list_length,
    )


def answer_from_book(
    reader: BookReader,
    own: RatingMatrix,
    *,
    held_out: HeldOutItem | None,
    watched: tuple[int, ...],
    list_length: int,
) -> Answer:
    """The same from a version, its book, and the user's own row of ratings, [1, I]."""
    with careful():
        items = reader.top(own, list_length)
    return counted(items, rated=own.items, held_out=held_out, watched=watched)


def ranked(
    scores: NDArray[np.float32],
    *,
    rated: NDArray[np.int32],
    held_out: HeldOutItem | None,
    watched: tuple[int, ...],
    list_length: int,
) -> Answer:
    """Top K and counts from a fine-tuned copy's scores of all items, [I].

    Of items that came after the model nothing is known, so that none of them is recommended.
    Raises VicinalError for scores that are not finite.
    """
    rated = rated[rated < len(scores)]
    items = top_items(scores, rated, list_length)
    return counted(items, rated=rated, held_out=held_out, watched=watched)


def counted(
    items: NDArray[np.int64],
    *,
    rated: NDArray[np.int32],
    held_out: HeldOutItem | None,
    watched: tuple[int, ...],
) -> Answer:
    """A top K that was made here, with its counts."""
    counts = count_user(items, rated, watched, held_out)
    return Answer(items, replace(counts, on_device=1))


@contextmanager
def careful() -> Iterator[None]:
    """Arithmetic on a stranger's numbers: what they come to is seen in the scores.

    Raises VicinalError where there is no solution.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except np.linalg.LinAlgError as error:
        raise VicinalError(f"fine-tuning: the model's numbers have no solution ({error})") from None


@final
class Pace:
    """Seconds of the last answers against a limit; without a limit nothing is too slow."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._passed_on = 0

    def note(self, seconds: float) -> None:
        """Note the seconds of an answer made here. A fast one clears all before it."""
        if self._limit is not None and seconds <= self._limit and self._passed_on:
            self._seconds.clear()
            self._passed_on = 0
        self._seconds.append(seconds)

    def too_slow(self) -> bool:
        """Whether the median is above the limit, so that the server should answer next."""
        if self._limit is None or len(self._seconds) < _LEAST:
            return False
        if median(self._seconds) <= self._limit:
            return False
        self._passed_on += 1
        return self._passed_on % _MEASURED_AGAIN != 0
