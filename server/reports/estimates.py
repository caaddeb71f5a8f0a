"""What randomized answers say of all users, each of whom may have lied; with standard errors.

A device answers truthfully with probability p = e^ε / (e^ε + 2) and gives each of the two other
answers with q = 1 / (e^ε + 2): randomized response (S. L. Warner, JASA 60 (1965) 63–69) with three
answers, which is generalized randomized response (T. Wang, J. Blocki, N. Li, S. Jha, "Locally
differentially private protocols for frequency estimation", USENIX Security 2017, §4.1). Where f is
an answer's share of n answers given, (f − q) / (p − q) is an unbiased estimate of its share of the
true ones (ibid., equation 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from common.wire.randomized import ANSWERS, IN, OUT, truth_probability


@dataclass(frozen=True)
class Estimate:
    """value ± error: one standard error; answers: how many it comes from."""

    value: float
    error: float
    answers: int


@dataclass(frozen=True)
class RandomizedEstimates:
    """hit_ratios: of each watched item; hit_ratio: their mean over those that can be estimated.

    None where there are too few answers to say anything. An estimate may lie outside 0–1.
    """

    epsilon: float
    hit_ratios: tuple[Estimate | None, ...]
    hit_ratio: Estimate | None
    accuracy: Estimate | None


def shares(answers: Sequence[int], epsilon: float) -> tuple[float, ...]:
    """Unbiased estimates of how many had each true answer; they add up to 1, and may be below 0.

    >>> [round(share, 12) for share in shares((100, 0, 0), 40.0)]
    [1.0, 0.0, 0.0]
    """
    total, truth = sum(answers), truth_probability(epsilon)
    other = (1 - truth) / (ANSWERS - 1)
    return tuple((count / total - other) / (truth - other) for count in answers)


def ratio(answers: Sequence[int], epsilon: float) -> Estimate | None:
    """Of those whose list could hold an item, the share whose list did: shown / (shown + not).

    The error is that of the ratio to first order (delta method), from the multinomial covariance
    of the shares of answers given; one more of each there, so that a few answers that happen to be
    alike do not seem certain.
    """
    total = sum(answers)
    if total < 2:
        return None
    estimated = shares(answers, epsilon)
    whole = estimated[OUT] + estimated[IN]
    if whole <= 0:
        return None
    truth = truth_probability(epsilon)
    scale = truth - (1 - truth) / (ANSWERS - 1)
    # How the ratio changes with the share of each answer given.
    slopes = [0.0] * ANSWERS
    slopes[IN] = estimated[OUT] / whole**2 / scale
    slopes[OUT] = -estimated[IN] / whole**2 / scale
    given = [(count + 1) / (total + ANSWERS) for count in answers]
    mean = sum(slope * share for slope, share in zip(slopes, given, strict=True))
    squares = sum(slope**2 * share for slope, share in zip(slopes, given, strict=True))
    variance = max(0.0, squares - mean**2) / total
    return Estimate(estimated[IN] / whole, sqrt(variance), total)


def estimates(epsilon: float, answers: Sequence[int]) -> RandomizedEstimates:
    """Of the sums of one ε: three numbers a question, the last question the held-out item's."""
    rows = [answers[at : at + ANSWERS] for at in range(0, len(answers), ANSWERS)]
    *items, accuracy = (ratio(row, epsilon) for row in rows)
    known = [one for one in items if one is not None]
    mean = None
    if known:
        # Every answer is to one question, so that the items' errors are independent.
        error = sqrt(sum(one.error**2 for one in known)) / len(known)
        mean = Estimate(
            sum(one.value for one in known) / len(known), error, sum(one.answers for one in known)
        )
    return RandomizedEstimates(epsilon, tuple(items), mean, accuracy)
