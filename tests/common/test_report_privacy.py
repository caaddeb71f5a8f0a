"""Noise on reports: as likely as promised, exactly; taken out again; of the size that is told."""

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.ranking import Counts
from common.report_privacy import (
    OUTCOMES,
    Draws,
    ReportPrivacy,
    answer_one,
    central_estimate,
    geometric_noise,
    local_estimate,
    noise_variance,
    outcome,
    respond,
    sensitivity,
    truth_threshold,
)

SPAN = 1 << 64
EPSILONS = st.floats(0.01, 30.0)
# What one user may report of its held-out item: users, hits, liked, liked hits.
HELD_OUT = [(0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 1, 1, 1)]


def users_of(items: int) -> Iterator[Counts]:
    """Every report that one user can make."""
    for hits in itertools.product((0, 1), repeat=items):
        for held_out in HELD_OUT:
            yield Counts((1,) * items, hits, *held_out)


def scripted(*values: int) -> "random.Random":
    class Script:
        def __init__(self) -> None:
            self.left = list(values)

        def __call__(self, below: int) -> int:
            value = self.left.pop(0)
            assert 0 <= value < below
            return value

    return Script()  # type: ignore[return-value]


def responses(truth: int, choices: int, epsilon: float) -> dict[int, Fraction]:
    """How likely each response is, from what the code does with every draw."""
    threshold = truth_threshold(epsilon, choices)
    found: defaultdict[int, Fraction] = defaultdict(Fraction)
    if threshold:
        for edge in (0, threshold - 1):
            assert respond(truth, choices, epsilon, scripted(edge)) == truth  # type: ignore[arg-type]
        found[truth] += Fraction(threshold, SPAN)
    for edge in (threshold, SPAN - 1):
        for other in range(choices):
            said = respond(truth, choices, epsilon, scripted(edge, other))  # type: ignore[arg-type]
            found[said] += Fraction(SPAN - threshold, SPAN) / choices / 2
    return found


@given(EPSILONS, st.sampled_from([2, OUTCOMES]))
def test_no_response_is_more_likely_by_more_than_epsilon(epsilon: float, choices: int) -> None:
    of_each = [responses(truth, choices, epsilon) for truth in range(choices)]
    most = max(
        one[said] / other[said] for one in of_each for other in of_each for said in range(choices)
    )
    assert math.log(most) <= epsilon + 1e-12
    assert math.log(most) == pytest.approx(epsilon, rel=1e-6)
    assert all(sum(each.values()) == 1 for each in of_each)


@pytest.mark.parametrize("epsilon", [0.1, 2.0, 9.0])
def test_no_report_is_more_likely_by_more_than_epsilon(epsilon: float) -> None:
    """Whole reports, question and answer, of every two users."""
    items = 2
    distributions = []
    for counts in users_of(items):
        found: defaultdict[tuple[int, ...], Fraction] = defaultdict(Fraction)
        for asked in range(items + 1):
            choices = 2 if asked < items else OUTCOMES
            truth = counts.hits[asked] if asked < items else outcome(counts)
            for said, share in responses(truth, choices, epsilon).items():
                threshold = truth_threshold(epsilon, choices)
                report = answer_one(counts, epsilon, scripted(asked, threshold, said))  # type: ignore[arg-type]
                assert sum(report) == 1
                found[tuple(report)] += share / (items + 1)
        assert sum(found.values()) == 1
        distributions.append(found)
    assert len({frozenset(each.items()) for each in distributions}) == len(distributions)
    ratios = [
        one[report] / other[report]
        for one in distributions
        for other in distributions
        for report in one
    ]
    assert math.log(max(ratios)) <= epsilon + 1e-12


def test_published_sums_move_no_further_than_noise_is_made_for() -> None:
    for items in range(3):
        vectors = []
        for counts in users_of(items):
            outcomes = [int(outcome(counts) == each) for each in range(OUTCOMES)]
            vectors.append([*counts.hits, *outcomes[1:]])
        moved = [np.abs(np.subtract(a, b)).sum() for a in vectors for b in vectors]
        assert max(moved) == sensitivity(items)


@pytest.mark.parametrize("epsilon", [Fraction(1, 3), Fraction(5, 2), Fraction(7, 40)])
def test_noise_is_geometric(epsilon: Fraction) -> None:
    draw = random.Random(5).randrange
    drawn = Counter(geometric_noise(epsilon, draw) for _ in range(20_000))
    base = math.exp(-epsilon)
    statistic, cells = 0.0, 0
    for value in range(-60, 61):
        expected = 20_000 * (1 - base) / (1 + base) * base ** abs(value)
        if expected >= 8:
            statistic += (drawn[value] - expected) ** 2 / expected
            cells += 1
    assert statistic < cells + 4 * math.sqrt(2 * cells)
    values = np.array(list(drawn.elements()))
    assert values.var() == pytest.approx(noise_variance(float(epsilon)), rel=0.06)


COUNTED = st.lists(
    st.tuples(st.lists(st.integers(0, 1), min_size=2, max_size=2), st.sampled_from(HELD_OUT)),
    min_size=1,
    max_size=30,
)


def many(counted: list[tuple[list[int], tuple[int, ...]]]) -> list[Counts]:
    return [Counts((1, 1), tuple(hits), *held_out) for hits, held_out in counted]


def truth_of(users: list[Counts]) -> tuple[list[int], list[int]]:
    hits = [sum(each.hits[item] for each in users) for item in range(2)]
    return hits, [sum(outcome(each) == one for each in users) for one in range(OUTCOMES)]


@given(COUNTED, st.floats(0.2, 8.0))
def test_what_devices_say_is_unbiased(
    counted: list[tuple[list[int], tuple[int, ...]]], epsilon: float
) -> None:
    """Of reports as they are on average, over every draw, the estimate is the truth."""
    users = many(counted)
    average = np.zeros(4 + OUTCOMES)
    for counts in users:
        for asked in range(3):
            choices = 2 if asked < 2 else OUTCOMES
            truth = counts.hits[asked] if asked < 2 else outcome(counts)
            for said, share in responses(truth, choices, epsilon).items():
                average[2 * asked + said] += float(share) / 3
    found = local_estimate(average.tolist(), epsilon)
    hits, outcomes = truth_of(users)
    assert found.hits == pytest.approx(hits, abs=1e-6)
    assert found.outcomes == pytest.approx(outcomes, abs=1e-6)


@given(COUNTED, st.floats(0.05, 8.0), st.integers(0, 1000))
@settings(max_examples=30)
def test_noise_is_added_to_the_truth_alone(
    counted: list[tuple[list[int], tuple[int, ...]]], epsilon: float, seed: int
) -> None:
    users = many(counted)
    total = sum(users, Counts.none(2))
    hits, outcomes = truth_of(users)
    draw = random.Random(seed).randrange
    found = central_estimate(total, outcomes, epsilon, draw)
    again = random.Random(seed).randrange
    each = Fraction(epsilon).limit_denominator(10**6) / 4
    noise = [geometric_noise(each, again) for _ in range(6)]
    assert [a - b for a, b in zip(found.outcomes[1:], outcomes[1:], strict=True)] == noise[:4]
    assert [a - b for a, b in zip(found.hits, hits, strict=True)] == noise[4:]
    assert sum(found.outcomes) == pytest.approx(len(users))


@pytest.mark.parametrize("kind", ["central", "local"])
def test_errors_are_as_large_as_they_are_told(kind: str) -> None:
    """400 times 300 users: what estimates miss by, beside the standard error that each tells."""
    users = many([([i % 2, i % 7 == 0], HELD_OUT[i % 5]) for i in range(300)])
    total, (hits, outcomes) = sum(users, Counts.none(2)), truth_of(users)
    draw = random.Random(3).randrange
    missed: dict[str, list[float]] = defaultdict(list)
    told: dict[str, list[float]] = defaultdict(list)
    for _ in range(400):
        if kind == "central":
            found = central_estimate(total, outcomes, 1.0, draw)
        else:
            reports = [answer_one(each, 2.0, draw) for each in users]
            found = local_estimate([sum(column) for column in zip(*reports, strict=True)], 2.0)
        measured = found.measures((300, 300))
        truth = {
            "hit_ratio": sum(hits) / 600,
            "accuracy": total.accuracy,
            "accuracy_thresholded": total.accuracy_thresholded,
        }
        for name, right in truth.items():
            missed[name].append(float(str(measured[name])) - right)
            error = measured["error"]
            assert isinstance(error, dict)
            told[name].append(error[name])
    for name, values in missed.items():
        spread = math.sqrt(np.mean(np.square(values)))
        assert spread == pytest.approx(np.median(told[name]), rel=0.2), name
        assert abs(np.mean(values)) < 4 * spread / 20, name


def test_the_same_question_is_answered_the_same() -> None:
    counts = Counts((1, 1), (1, 0), 1, 1, 0, 0)
    ask = [answer_one(counts, 0.5, Draws(b"k" * 32, f"1/{user}")) for user in range(200)]
    assert ask == [answer_one(counts, 0.5, Draws(b"k" * 32, f"1/{user}")) for user in range(200)]
    assert ask != [answer_one(counts, 0.5, Draws(b"l" * 32, f"1/{user}")) for user in range(200)]
    asked = Counter(report.index(1) // 2 for report in ask)
    assert len(asked) >= 3


def test_where_nobody_was_asked_nothing_is_known() -> None:
    found = local_estimate([0, 0, 3, 1, 0, 0, 0, 0, 0], 2.0)
    assert (found.hits[0], found.hit_error[0]) == (0.0, 4.0)
    assert found.measures((4, 4))["accuracy"] == 0.0


@pytest.mark.parametrize(
    "text",
    [*("", "local", "local:", "local:0", "local:-1", "local:nan", "local:1e3", "central:31")]
    + [*("secagg:2", "Local:3", "local:3 ", "local:٣", "none\n")],
)
def test_what_is_no_privacy_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="report privacy"):
        ReportPrivacy.parse(text)


@given(st.sampled_from(["central", "local"]), st.integers(1, 3000))
def test_what_is_written_is_read(kind: str, hundredths: int) -> None:
    text = f"{kind}:{hundredths / 100:g}"
    assert str(ReportPrivacy.parse(text)) == text


def test_two_clients_have_no_sum_of_their_own() -> None:
    assert ReportPrivacy.parse("secagg").of_clients(3) == ReportPrivacy("secagg")
    assert ReportPrivacy.parse("local:1").of_clients(1).noisy
    with pytest.raises(InputError, match=r"secagg: 2 clients, .*choose more clients"):
        ReportPrivacy.parse("secagg").of_clients(2)
