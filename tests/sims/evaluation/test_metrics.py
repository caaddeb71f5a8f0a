"""Metrics against numbers worked out by hand, and against counts of one user after the other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.stores.ratings import LocalRatings
from common.ranking import Counts, count_user
from sims.evaluation.metrics import (
    METRICS,
    Population,
    WorstGroup,
    coverage,
    harm,
    ratios_of,
    tail_items,
    worst_group,
)
from sims.evaluation.outcomes import Outcomes, reach_of
from sims.evaluation.scores import MEASURED, Scores, flat
from tests.support.ratings import from_rows

ITEMS, K = 100, 20
# Four users: items rated, item held out (−1 none), whether it was liked, recommended items.
RATED = ((0, 1), (2, 3), (4,), (0, 9))
HELD_OUT = (10, 20, 30, -1)
LIKED = (True, False, True, False)
# User 0 finds its item at rank 1, user 1 at rank 3, user 2 at rank 25: beyond K, within 50.
LISTS = (
    (10, 7, 8),
    (7, 6, 20),
    (*range(40, 64), 30),
    (8, 7),
)
# Item 7 is at ranks 2, 1, none, 2; item 9 is rated by user 3 and in no list.
TARGETS = (7, 9)


def local() -> LocalRatings:
    return LocalRatings(
        from_rows(RATED, ITEMS), np.array(HELD_OUT, dtype=np.int32), np.array(LIKED)
    )


def outcomes(unsupported: tuple[int, ...] | None = None) -> Outcomes:
    lists = np.full((4, reach_of(K)), -1, dtype=np.int32)
    for row, items in zip(lists, LISTS, strict=True):
        row[: len(items)] = items
    told = None if unsupported is None else np.array(unsupported, dtype=np.int32)
    return Outcomes.of(np.arange(4), lists, local(), TARGETS, K, told)


def population(**changed: object) -> Population:
    given: dict[str, object] = {
        "groups": np.array([0, 0, 1, 1]),
        "tail": np.array([True, False, True, False]),
        **changed,
    }
    return Population(**given)  # type: ignore[arg-type]


def values(one: Outcomes, who: Population) -> dict[str, float | None]:
    return {name: ratio.value for name, ratio in ratios_of(one, who).items()}


def test_ranks_by_hand() -> None:
    found = outcomes()
    assert found.ranks.tolist() == [1, 3, 25, -1]
    assert found.target_ranks.tolist() == [[2, 0], [1, 0], [0, 0], [2, -1]]
    assert found.lengths.tolist() == [3, 3, 20, 2]
    assert found.liked.tolist() == [True, False, True, False]
    shown = np.flatnonzero(found.shown)
    assert shown.tolist() == [6, 7, 8, 10, 20, *range(40, 60)]
    assert found.shown[7] == 3
    assert found.counts == Counts((4, 3), (3, 0), 3, 2, 2, 1)


def test_metrics_by_hand() -> None:
    found = values(outcomes((0, 1, 10, 1)), population())
    assert found["accuracy"] == 2 / 3
    assert found["accuracy_thresholded"] == 1 / 2  # users 0 and 2 liked theirs
    assert found["accuracy_tail"] == 1 / 2  # users 0 and 2
    assert found["recall_10"] == 2 / 3
    assert found["recall_50"] == 1  # user 2's is at rank 25
    assert found["ndcg_10"] == pytest.approx((1 + 1 / math.log2(4)) / 3)
    assert found["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 25) / 3)
    assert found["hit_ratio"] == (3 / 4 + 0 / 3) / 2
    assert found["hit_ratio_10"] == found["hit_ratio_50"] == found["hit_ratio"]
    assert found["unsupported_share"] == (0 + 1 + 10 + 1) / (3 + 3 + 20 + 2)
    assert found["hit_ratio_inside"] is None and found["hit_ratio_outside"] is None
    assert coverage(outcomes()) == 25 / 100
    assert values(outcomes(), population())["unsupported_share"] is None


def test_an_audience_is_inside_and_outside() -> None:
    found = values(outcomes(), population(inside=np.array([True, False, False, True])))
    # Inside, users 0 and 3: item 7 in 2 of 2 lists, item 9 in 0 of 1. Outside: 1 of 2, 0 of 2.
    assert found["hit_ratio_inside"] == (2 / 2 + 0 / 1) / 2
    assert found["hit_ratio_outside"] == (1 / 2 + 0 / 2) / 2


def test_the_worst_group_is_the_most_reached_and_for_demotion_the_least() -> None:
    # Group 0: 2 of 2 and 0 of 2. Group 1: 1 of 2 and 0 of 1.
    assert worst_group(outcomes(), population()) == WorstGroup(0.5, 2)
    assert worst_group(outcomes(), population(goal="demote")) == WorstGroup(0.25, 2)
    alone = Outcomes.of(np.arange(4), outcomes_lists(), local(), (), K)
    assert worst_group(alone, population()) is None


def outcomes_lists() -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    return np.full((4, reach_of(K)), -1, dtype=np.int32)


def test_a_column_without_eligible_users_is_left_out_of_a_group() -> None:
    # Item 9 alone is watched, and user 3 alone is group 1: nobody there could be shown it.
    one = Outcomes.of(np.arange(4), outcomes_lists(), local(), (9,), K)
    who = population(groups=np.array([0, 0, 0, 1]))
    assert worst_group(one, who) == WorstGroup(0.0, 3)


def test_harm_is_a_rise_or_a_fall() -> None:
    none = Outcomes.of(np.arange(4), outcomes_lists(), local(), TARGETS, K)
    told = {"clean": none, "clean_defended": none, "undefended": outcomes(), "defended": none}
    promote = Scores(told, population(), seed=0)
    assert promote.harms() == {
        "harm_over_clean": {"undefended": 0.375, "defended": 0.0},
        "harm_over_clean_defended": {"defended": 0.0},
    }
    swapped = told | {"clean": outcomes(), "undefended": none}
    demote = Scores(swapped, population(goal="demote"), seed=0)
    assert demote.harm("clean", "undefended") == 0.375
    low, high = demote.harm_interval("clean", "undefended") or (0, 0)
    assert 0 <= low <= 0.375 <= high
    assert harm(None, 0.5, "promote") is None


def test_every_metric_has_a_value_under_every_condition() -> None:
    one = outcomes()
    scores = Scores(dict.fromkeys(("clean", "defended"), one), population(), seed=0)
    told = scores.by_metric(["clean", "defended"])
    assert set(told) == set(MEASURED) and all(len(part) == 2 for part in told.values())
    assert told["hit_ratio"]["clean"] == one.counts.hit_ratio
    assert set(scores.told("clean")["intervals"]) == set(METRICS)
    assert scores.tail_users == 2 and scores.group_count == 2
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": [1]}) == {"a_b": 1, "a_c_d": None, "e": [1]}


def test_tail_items_have_fewer_than_50_ratings() -> None:
    ratings = from_rows([(0, 1) if user < 49 else (0,) for user in range(50)], 3)
    assert tail_items(ratings).tolist() == [False, True, True]


def test_a_population_comes_from_what_users_have() -> None:
    found = Population.of(np.array([1, 3]), local(), audience=(3,), goal="demote")
    assert found.inside is not None and found.inside.tolist() == [False, True]
    assert found.groups.tolist() == [0, 0] and found.goal == "demote"
    assert found.tail.tolist() == [True, True]  # user 3 has none held out, and is not asked
    assert Population.of(np.array([0]), local()).inside is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_counts_are_the_sum_of_each_users(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = int(rng.integers(1, 8)), int(rng.integers(4, 70))
    rated = tuple(
        tuple(sorted(rng.choice(items, rng.integers(0, items // 2), replace=False).tolist()))
        for _ in range(users)
    )
    train = from_rows(rated, items)
    held_out = rng.integers(-1, items, users).astype(np.int32)
    known = LocalRatings(train, held_out, (rng.random(users) < 0.5) & (held_out >= 0))
    watched = tuple(rng.choice(items, int(rng.integers(0, 4)), replace=False).tolist())
    lists = np.full((users, reach_of(length)), -1, dtype=np.int32)
    expected = Counts.none(len(watched))
    for user, row in enumerate(lists):
        free = rng.permutation(np.setdiff1d(np.arange(items), rated[user]))[: len(row)]
        row[: len(free)] = free
        expected += count_user(
            free[:length], train.items_of(user), watched, known.held_out_of(user)
        )
    found = Outcomes.of(np.arange(users), lists, known, watched, length)
    assert found.counts == expected
    part = rng.permutation(users)[: max(1, users // 2)]
    some = Outcomes.of(part, lists[part], known, watched, length)
    np.testing.assert_array_equal(some.ranks, found.ranks[part])
    np.testing.assert_array_equal(some.target_ranks, found.target_ranks[part])
