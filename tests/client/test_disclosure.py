"""What a device tells of its users: of how many, on how much, and how far from the truth."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.disclosure import (
    LEAST_USERS,
    MAX_WATCHED,
    Disclosure,
    batch_size,
    checked_epsilon,
    true_answer,
)
from common.errors import InputError
from common.ranking import Counts
from common.wire.randomized import IN, NONE, OUT
from common.wire.service import USERS_PER_REPORT

# Watched item 0 is rated, 1 is in the list, 2 is not; the held-out item is in it.
USER = Counts((0, 1, 1), (0, 1, 0), users=1, user_hits=1, on_device=1)


@given(st.integers(1, 3000))
def test_no_report_is_of_few_users_where_there_are_many(users: int) -> None:
    sizes = []
    while users:
        sizes.append(batch_size(users))
        users -= sizes[-1]
    assert max(sizes) <= USERS_PER_REPORT
    assert min(sizes) >= min(sum(sizes), USERS_PER_REPORT // 2)


def test_too_few_users_and_too_many_items_are_not_told_of() -> None:
    exact, random_ones = Disclosure(), Disclosure(epsilon=1.0)
    assert exact.refusal(LEAST_USERS, MAX_WATCHED) is None
    assert "5 users at least" in str(exact.refusal(LEAST_USERS - 1, 1))
    assert random_ones.refusal(1, MAX_WATCHED) is None
    assert random_ones.randomizes(LEAST_USERS - 1) and not random_ones.randomizes(LEAST_USERS)
    for each in (exact, random_ones):
        assert "watches 17 items" in str(each.refusal(25, MAX_WATCHED + 1))


def test_true_answers() -> None:
    assert [true_answer(USER, question) for question in range(4)] == [NONE, IN, OUT, IN]
    assert true_answer(Counts((1,), (0,)), 1) == NONE


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_answers_are_true_as_often_as_epsilon_says(epsilon: float) -> None:
    draws = 20_000
    message = Disclosure(epsilon=epsilon).randomized([USER] * draws, random.Random(1))
    assert message.epsilon == epsilon
    asked = Counter(message.questions)
    for question in range(4):
        # Five standard deviations.
        assert abs(asked[question] - draws / 4) < 5 * math.sqrt(draws * 3 / 16)
        given_to = Counter(
            answer
            for each, answer in zip(message.questions, message.answers, strict=True)
            if each == question
        )
        total, right = asked[question], true_answer(USER, question)
        for answer in (OUT, IN, NONE):
            share = (math.exp(epsilon) if answer == right else 1) / (math.exp(epsilon) + 2)
            assert abs(given_to[answer] - total * share) < 5 * math.sqrt(total / 4)


def test_nobody_can_foresee_an_answer() -> None:
    first, second = (Disclosure(epsilon=0.1).randomized([USER] * 200) for _ in range(2))
    assert list(first.answers) != list(second.answers)


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 11.0, math.nan, math.inf, -1.0])
def test_an_epsilon_that_hides_nothing_or_says_nothing_is_refused(epsilon: float) -> None:
    with pytest.raises(InputError, match=r"choose 0\.1–10"):
        Disclosure(epsilon=epsilon)
    assert checked_epsilon(1.001) == 1.0
