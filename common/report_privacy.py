"""Reports that say little of any one user, and what they still say of all.

    local:EPS    a device draws one question and answers it by chance (randomized response): whoever
                 reads its report, of any two outcomes neither is more than e^EPS times as likely
    central:EPS  noise on the sums before they are told (the geometric mechanism): of what is told,
                 neither of any two reports of one user is more than e^EPS times as likely
    secagg       clients' counts are added up under masks: nobody sees those of one client

Questions are the t watched items (is it in the top K?) and one more: what became of the held-out
item, one of OUTCOMES. Draws are of whole numbers below 2^64, so that probabilities are exact.

Shapes: t watched items, U users, n of them asked one question, c answers to it.
"""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, Self, cast, final, get_args

from common.errors import InputError
from common.ranking import Counts

Kind = Literal["none", "secagg", "central", "local"]
SECAGG: Final[Kind] = "secagg"
CENTRAL: Final[Kind] = "central"
LOCAL: Final[Kind] = "local"
# No held-out item; one that was not liked or liked, and is not in the top K or in it.
OUTCOMES: Final = 5
LEAST_EPSILON: Final = 0.01
MOST_EPSILON: Final = 30.0
SECRET_BYTES: Final = 32
# Of two clients each could tell the other's counts from the sum.
LEAST_SUMMED: Final = 3
_SPAN: Final = 1 << 64
_FORM: Final = re.compile(r"(none|secagg)|(central|local):(\d{1,3}(?:\.\d{1,6})?)", re.ASCII)

# Gives a whole number below the one given, each as likely.
Below = Callable[[int], int]


@final
@dataclass(frozen=True)
class ReportPrivacy:
    """What reports keep to themselves; epsilon is 0 where there is none."""

    kind: Kind = "none"
    epsilon: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InputError.

        >>> ReportPrivacy.parse("local:2.5")
        ReportPrivacy(kind='local', epsilon=2.5)
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise InputError(
                f"report privacy {text[:40]!r}: write none, secagg, central:EPSILON or "
                "local:EPSILON, as in local:3"
            )
        epsilon = float(match[3] or 0)
        if match[3] and not LEAST_EPSILON <= epsilon <= MOST_EPSILON:
            raise InputError(f"report privacy: epsilon lies in {LEAST_EPSILON:g}–{MOST_EPSILON:g}")
        kind = cast(Kind, match[1] or match[2])
        assert kind in get_args(Kind)
        return cls(kind, epsilon)

    @property
    def noisy(self) -> bool:
        """Whether what is told are estimates, and no counts."""
        return self.kind in (CENTRAL, LOCAL)

    def of_clients(self, count: int) -> Self:
        """Itself. Raises InputError for too few to add up the counts of."""
        if self.kind == SECAGG and count < LEAST_SUMMED:
            raise InputError(
                f"report privacy secagg: {count} clients, and a sum of fewer than {LEAST_SUMMED} "
                "tells one what another counted: choose more clients"
            )
        return self

    def of_rounds(self, fewest: int) -> Self:
        """Itself, of rounds in each of which so many clients are asked. Raises InputError."""
        if self.noisy:
            raise InputError(
                f"report privacy {self.kind}: every round would spend epsilon again; "
                "with several rounds choose none or secagg"
            )
        return self.of_clients(fewest)

    def __str__(self) -> str:
        return f"{self.kind}:{self.epsilon:g}" if self.epsilon else self.kind


# Everything is told.
OPEN: Final = ReportPrivacy()


def outcome(counts: Counts) -> int:
    """Of one user's held-out item, 0 … OUTCOMES - 1."""
    return counts.users and 1 + 2 * counts.liked + counts.user_hits


# Local: randomized response.


def truth_threshold(epsilon: float, choices: int) -> int:
    """Of 2^64 draws, how many tell the truth; the others tell any choice, the true one too.

    Rounded down, so that epsilon is not exceeded.
    """
    return math.floor(
        Fraction(math.expm1(epsilon)) / Fraction(math.expm1(epsilon) + choices) * _SPAN
    )


def respond(truth: int, choices: int, epsilon: float, draw: Below) -> int:
    """The truth or by chance something else, 0 … choices - 1 (Warner 1965; k-ary as in Kairouz,
    Bonawitz and Ramage 2016).
    """
    if draw(_SPAN) < truth_threshold(epsilon, choices):
        return truth
    return draw(choices)


def answer_one(counts: Counts, epsilon: float, draw: Below) -> list[int]:
    """One user's report, [2t + 5] with a single 1: which question it drew, and what it said.

    The answers to a question stand together: no and yes for each item, then the outcomes.
    """
    items = len(counts.hits)
    report = [0] * (2 * items + OUTCOMES)
    asked = draw(items + 1)
    if asked < items:
        report[2 * asked + respond(counts.hits[asked], 2, epsilon, draw)] = 1
    else:
        report[2 * items + respond(outcome(counts), OUTCOMES, epsilon, draw)] = 1
    return report


@final
class Draws:
    """Numbers that the same secret and name always give in the same order.

    So that a device which is asked the same again says the same: it tells nothing more.
    """

    def __init__(self, secret: bytes, name: str) -> None:
        self._secret, self._name, self._count = secret, name.encode(), 0

    def __call__(self, below: int) -> int:
        """At most 2^64; up to 2^-61 as likely as any other number."""
        self._count += 1
        named = self._name + b"/" + str(self._count).encode()
        found = hashlib.blake2b(named, key=self._secret, digest_size=8).digest()
        return int.from_bytes(found, "big") % below


# Central: geometric noise.


def sensitivity(watched: int) -> int:
    """How far all published counts may move together when one user reports something else: each
    item's by 1, and those of two outcomes.
    """
    return watched + 2


def geometric_noise(epsilon: Fraction, draw: Below) -> int:
    """A whole number, k with a probability in proportion to e^(-epsilon |k|), exactly.

    Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy" (2020),
    algorithm 2.
    """
    numerator, denominator = epsilon.numerator, epsilon.denominator
    while True:
        part = draw(denominator)
        if not _happens(Fraction(part, denominator), draw):
            continue
        whole = 0
        while _happens(Fraction(1), draw):
            whole += 1
        size = (part + denominator * whole) // numerator
        negative = draw(2)
        if not (negative and size == 0):
            return -size if negative else size


def _happens(rate: Fraction, draw: Below) -> bool:
    """With a probability of e^-rate, for a rate of at most 1 (the same, algorithm 1)."""
    tries = 1
    while draw(rate.denominator * tries) < rate.numerator:
        tries += 1
    return tries % 2 == 1


def noise_variance(epsilon: float) -> float:
    """Of geometric_noise."""
    base = math.exp(-epsilon)
    return 2 * base / (1 - base) ** 2


# What all reports come to.


@final
@dataclass(frozen=True)
class Estimate:
    """Counts as they may be without chance: unbiased, so that they may lie below 0.

    hits       of each watched item
    outcomes   users by what became of their held-out item, [5]
    hit_error, outcome_error
               standard errors: of each item's hits; of any weighted sum of the last four outcomes,
               by its weights and the estimate itself
    """

    hits: tuple[float, ...]
    outcomes: tuple[float, ...]
    hit_error: tuple[float, ...]
    outcome_error: Callable[[Sequence[float]], float]

    def measures(self, eligible: Sequence[int]) -> dict[str, object]:
        """Hit ratio and accuracy as Counts has them, and the error of each."""
        ratios = [
            hit / all_ if all_ else 0.0 for hit, all_ in zip(self.hits, eligible, strict=True)
        ]
        errors = [
            e / all_ if all_ else 0.0 for e, all_ in zip(self.hit_error, eligible, strict=True)
        ]
        many = max(1, len(ratios))
        accuracy, accuracy_error = self._ratio((2, 4), (1, 2, 3, 4))
        liked, liked_error = self._ratio((4,), (3, 4))
        return {
            "hit_ratio": sum(ratios) / many,
            "hit_ratio_per_target": ratios,
            "accuracy": accuracy,
            "accuracy_thresholded": liked,
            "error": {
                "hit_ratio": math.sqrt(sum(error**2 for error in errors)) / many,
                "accuracy": accuracy_error,
                "accuracy_thresholded": liked_error,
            },
        }

    def _ratio(self, part: Sequence[int], whole: Sequence[int]) -> tuple[float, float]:
        """Of sums of outcomes, and its error to first order."""
        above, below = (sum(self.outcomes[each] for each in some) for some in (part, whole))
        if below <= 0:
            return 0.0, 1.0
        ratio = above / below
        weights = [(each in part) - ratio * (each in whole) for each in range(OUTCOMES)]
        return ratio, self.outcome_error(weights) / below


def central_estimate(
    counts: Counts, outcomes: Sequence[int], epsilon: float, draw: Below
) -> Estimate:
    """Sums with noise."""
    each = Fraction(epsilon).limit_denominator(10**6) / sensitivity(len(counts.hits))
    error = math.sqrt(noise_variance(float(each)))
    noisy = [number + geometric_noise(each, draw) for number in outcomes[1:]]
    return Estimate(
        tuple(float(hit + geometric_noise(each, draw)) for hit in counts.hits),
        (float(sum(outcomes) - sum(noisy)), *map(float, noisy)),
        (error,) * len(counts.hits),
        lambda weights: error * math.sqrt(sum(weight**2 for weight in weights[1:])),
    )


def local_estimate(answers: Sequence[float], epsilon: float) -> Estimate:
    """From all users' reports added up, [2t + 5]. Users are as if drawn for each question."""
    users, items = sum(answers), (len(answers) - OUTCOMES) // 2
    hits, errors = [], []
    for item in range(items):
        said = answers[2 * item : 2 * item + 2]
        hits.append(_debiased(said, epsilon, users)[1])
        errors.append(_weighed_error(said, epsilon, users, (0.0, 1.0)))
    said = answers[2 * items :]
    return Estimate(
        tuple(hits),
        tuple(_debiased(said, epsilon, users)),
        tuple(errors),
        lambda weights: _weighed_error(said, epsilon, users, weights),
    )


def _debiased(said: Sequence[float], epsilon: float, users: float) -> list[float]:
    """Of all users, how many would truly say each; nothing is known where nobody was asked."""
    asked, choices = sum(said), len(said)
    if not asked:
        return [0.0] * choices
    truth = truth_threshold(epsilon, choices) / _SPAN
    return [users * (one / asked - (1 - truth) / choices) / truth for one in said]


def _weighed_error(
    said: Sequence[float], epsilon: float, users: float, weights: Sequence[float]
) -> float:
    """Standard error of a weighted sum of _debiased, from how much what was said varies."""
    asked = sum(said)
    if not asked:
        return float(users)
    truth = truth_threshold(epsilon, len(said)) / _SPAN
    # Each answer is said by chance at least so often, seen or not.
    shares = [max(one / asked, (1 - truth) / len(said)) for one in said]
    mean = sum(weight * one for weight, one in zip(weights, shares, strict=True)) / sum(shares)
    square = sum(weight**2 * one for weight, one in zip(weights, shares, strict=True)) / sum(shares)
    return users * math.sqrt(max(square - mean**2, 0.0) / asked) / truth
