"""Times taken in one process, in turn, so that a busy machine slows all alike.

They are processor time, of one thread: what the machine gives to others in between does not
count. On an idle machine it is the time that passes.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Timed:
    """Seconds [functions, inputs] and what the functions gave, by input, then function."""

    seconds: NDArray[np.float64]
    answers: list[list[Any]]

    @property
    def medians(self) -> NDArray[np.float64]:
        """Of every function over the inputs, [functions]."""
        middle: NDArray[np.float64] = np.median(self.seconds, axis=1)
        return middle


def in_turn(
    functions: list[Callable[[Any], Any]],
    inputs: Iterable[Any],
    *,
    budget: float,
    least: int = 3,
) -> Timed:
    """Call every function on one input after another for `budget` seconds of processor time.

    The first input is done twice and its first time left out: it pays for caches and pages.
    """
    seconds: list[list[float]] = []
    answers: list[list[Any]] = []
    end: float | None = None
    for given in inputs:
        if end is None:
            for function in functions:
                function(given)
            end = time.process_time() + budget
        if len(seconds) >= least and time.process_time() > end:
            break
        row, found = [], []
        for function in functions:
            start = time.process_time()
            found.append(function(given))
            row.append(time.process_time() - start)
        seconds.append(row)
        answers.append(found)
    return Timed(np.array(seconds).T, answers)
