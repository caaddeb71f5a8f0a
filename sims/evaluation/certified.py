"""Certificates of many users, shared out to workers.

Shapes: I items, u users asked about, n numbers of fakes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings
from server.recommending.certificate import Beyond, Certificate, Form, beyond
from server.recommending.rated_neighbors import RatedNeighborIndex
from sims.processes.workers import Workers
from sims.progress import Report, counter

# Small enough that progress moves, large enough that sending it costs nothing.
USERS_PER_TASK: Final = 32
# Of settings by number, a form, and some users.
Part = tuple[int, Form, Beyond]


@final
@dataclass(frozen=True)
class Certified:
    """What is certified: ratings that are taken for genuine, under some settings.

    fakes      numbers of fakes
    unpopular  items that nobody expects in a list, [I]
    """

    ratings: RatingMatrix
    settings: Sequence[VicinalSettings]
    fakes: Sequence[int]
    unpopular: NDArray[np.bool_]

    def over(self, users: NDArray[np.int64], workers: Workers, progress: Report) -> Iterator[Part]:
        """Counts over all users [u], under all settings and in every form that holds for them.

        They do not depend on the workers. Raises InputError, VicinalError.
        """
        cases = [
            (number, form) for number in range(len(self.settings)) for form in self.forms(number)
        ]
        advance = {case: counter(progress, self._title(*case), len(users)) for case in cases}
        calls = [
            (*case, users[start : start + USERS_PER_TASK])
            for case in cases
            for start in range(0, len(users), USERS_PER_TASK)
        ]

        def arrived(part: Part) -> None:
            number, form, found = part
            advance[number, form](found.users)

        found: dict[tuple[int, Form], Beyond] = {}
        for number, form, one in workers.each(
            _part, calls, start=_Certificates, arguments=(self,), arrived=arrived
        ):
            case = number, form
            found[case] = found[case] + one if case in found else one
        return ((*case, found[case]) for case in cases)

    def forms(self, number: int) -> tuple[Form, ...]:
        """The forms of a certificate that hold for some settings."""
        by_embedding = self.settings[number].neighbors_by == "embedding"
        return ("any",) if by_embedding else ("any", "pairwise")

    def _title(self, number: int, form: Form) -> str:
        return f"{form}, {100 * self.settings[number].assumed_fakes:g} % assumed"


@final
class _Certificates:
    """Made in each worker, each certificate when it is first asked for."""

    def __init__(self, certified: Certified) -> None:
        self.certified = certified
        self._made: tuple[int, Form, Certificate] | None = None

    def of(self, number: int, form: Form) -> Certificate:
        if self._made is None or self._made[:2] != (number, form):
            settings = self.certified.settings[number]
            shared = form == "pairwise" and settings.neighbors_by == "ratings"
            index = self._index if shared else None
            made = Certificate(self.certified.ratings, settings, form=form, index=index)
            self._made = number, form, made
        return self._made[2]

    @cached_property
    def _index(self) -> RatedNeighborIndex:
        return RatedNeighborIndex(self.certified.ratings)


def _part(made: _Certificates, number: int, form: Form, users: NDArray[np.int64]) -> Part:
    asked = made.certified
    return number, form, beyond(made.of(number, form), users, asked.fakes, asked.unpopular)
