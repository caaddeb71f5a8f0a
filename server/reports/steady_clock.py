"""Seconds since 1970 that never go back, and never forward faster than time passes."""

import time
from collections.abc import Callable
from typing import final


@final
class SteadyClock:
    """What the system's clock says at first; from then on only what has passed is added.

    A system clock that is set forward by a month, and back again, would otherwise make a server
    forget what it has counted. Where it was wrong at the start it stays wrong by as much: of what
    is remembered for a month only the distance between two moments counts.

    least   what it says at least, so that it does not go back over a restart either
    clock   seconds since 1970
    passed  seconds since any moment, which nobody can set
    """

    def __init__(
        self,
        *,
        least: float = 0.0,
        clock: Callable[[], float] = time.time,
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begun = max(least, clock())
        self._passed = passed
        self._mark = passed()

    def __call__(self) -> float:
        return self._begun + self._passed() - self._mark
