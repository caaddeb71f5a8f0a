"""Whether a device is too slow to fine-tune, judged by its own last answers."""

from collections import deque
from statistics import median
from typing import Final, final

_REMEMBERED: Final = 5
_LEAST: Final = 3
# One of so many answers is made here all the same, to see whether the device is still slow.
_MEASURED_AGAIN: Final = 25


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
