"""What a device tells of its users, whatever a server asks for.

A sum over one user is that user's own: it says which of the watched items the user has rated, and
which are in the list. So a report is made of a few users at least, on a few items at most; of fewer
users it can be made of randomized responses (Warner 1965), of which each says little: the true
answer is given with probability e^ε / (e^ε + 2), and each of the two others with 1 / (e^ε + 2), so
that no answer is more than e^ε times as likely for one user as for another (ε-local differential
privacy). ε adds up over a user's reports.
"""

import math
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from common.errors import InputError
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.randomized import ANSWERS, HUNDREDTHS, IN, NONE, OUT, truth_probability
from common.wire.service import USERS_PER_REPORT

LEAST_USERS: Final = 5
# More would spell out a list, item by item.
MAX_WATCHED: Final = 16


def checked_epsilon(epsilon: float) -> float:
    """In hundredths, as reports have it. Raises InputError."""
    least, most = HUNDREDTHS[0] / 100, HUNDREDTHS[-1] / 100
    if not least <= epsilon <= most:
        raise InputError(f"epsilon {epsilon:g}: choose {least:g}–{most:g}, less says less")
    return round(100 * epsilon) / 100


def batch_size(users: int) -> int:
    """Of how many users the next report is, so that the last ones are not of too few."""
    return math.ceil(users / math.ceil(users / USERS_PER_REPORT))


@final
@dataclass(frozen=True)
class Disclosure:
    """What a device tells of its users.

    least_users  in a report of sums
    epsilon      of randomized responses, in which fewer users are reported; None: they are not
    """

    least_users: int = LEAST_USERS
    epsilon: float | None = None

    def __post_init__(self) -> None:
        if self.epsilon is not None:
            object.__setattr__(self, "epsilon", checked_epsilon(self.epsilon))

    def randomizes(self, users: int) -> bool:
        """Whether so many users are reported in randomized responses."""
        return self.epsilon is not None and users < self.least_users

    def refusal(self, users: int, watched: int) -> str | None:
        """Why nothing is reported of so many users and watched items; None where it is."""
        if watched > MAX_WATCHED:
            return (
                f"the server watches {watched} items, and a device tells of {MAX_WATCHED} at most"
            )
        if users < self.least_users and self.epsilon is None:
            return (
                f"a report is of {self.least_users} users at least: --randomize 1 reports of "
                "fewer, in randomized responses"
            )
        return None

    def randomized(
        self, answered: Sequence[Counts], rng: random.Random | None = None
    ) -> wire.Randomized:
        """For each user's counts a question drawn at random, and a randomized response to it.

        The questions are those for the watched items, and one for the held-out item.
        """
        assert self.epsilon is not None
        rng = secrets.SystemRandom() if rng is None else rng
        truth = truth_probability(self.epsilon)
        message = wire.Randomized(epsilon=self.epsilon)
        for counts in answered:
            question = rng.randrange(len(counts.eligible) + 1)
            answer = true_answer(counts, question)
            if rng.random() >= truth:
                answer = rng.choice([other for other in range(ANSWERS) if other != answer])
            message.questions.append(question)
            message.answers.append(answer)
        return message


def true_answer(counts: Counts, question: int) -> int:
    """Of one user's counts. Question q asks for watched item q, the last for the held-out item."""
    if question < len(counts.eligible):
        asked, hit = counts.eligible[question], counts.hits[question]
    else:
        asked, hit = counts.users, counts.user_hits
    return NONE if not asked else IN if hit else OUT
