"""Randomized responses of a report, as both sides read them (Randomized in the contract).

The true answer is given with probability p = e^ε / (e^ε + 2), and each of the two others with
q = 1 / (e^ε + 2).
"""

from math import exp
from typing import Final

# Answers to a question: the item is not in the user's list, it is, and there is nothing to say.
OUT: Final = 0
IN: Final = 1
NONE: Final = 2
ANSWERS: Final = 3
# The least ε and the largest, in hundredths: any number would let every report begin a sum of its
# own.
HUNDREDTHS: Final = range(10, 1001)


def is_epsilon(epsilon: float) -> bool:
    """Whether it is one that a report may have, give or take less than a hundredth.

    >>> is_epsilon(1.0), is_epsilon(0.0), is_epsilon(1e308)
    (True, False, False)
    """
    # Not rounded first: a hundred times the largest number there is has no end.
    return 0 < epsilon < HUNDREDTHS.stop and round(100 * epsilon) in HUNDREDTHS


def truth_probability(epsilon: float) -> float:
    """p: with which the true answer is given.

    >>> round(truth_probability(1.0), 4)
    0.5761
    """
    return 1.0 / (1.0 + (ANSWERS - 1) * exp(-epsilon))
