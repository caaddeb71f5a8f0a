"""Numbers that know how far chance may have moved them: of so many people, one sample was asked."""

import math
from typing import Self, final

# By name; None where there is nothing to measure.
Figures = dict[str, "float | None"]


@final
class Sampled(float):
    """A figure of one split with the standard error that its sample of people leaves."""

    error: float

    def __new__(cls, value: float, error: float) -> Self:
        made = super().__new__(cls, value)
        made.error = error
        return made

    def __getnewargs__(self) -> tuple[float, float]:  # type: ignore[override] # for pickle
        return float(self), self.error


def share(value: float, count: int) -> Sampled:
    """Of so many people who were asked independently.

    >>> share(0.5, 100).error
    0.05
    """
    return Sampled(value, math.sqrt(max(value * (1 - value), 0.0) / max(count, 1)))


def area(value: float, members: int, others: int) -> Sampled:
    """An area under a curve (Hanley and McNeil 1982, "The Meaning and Use of the Area …", eq. 2).

    >>> round(area(0.5, 400, 200).error, 3)
    0.025
    """
    above = value / (2 - value)
    below = 2 * value**2 / (1 + value)
    variance = value * (1 - value)
    variance += (members - 1) * (above - value**2) + (others - 1) * (below - value**2)
    return Sampled(value, math.sqrt(max(variance, 0.0) / (members * others)))
