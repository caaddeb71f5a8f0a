"""What lying shards and users can move, against every way to lie that there is."""

from itertools import combinations
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ranking import Counts
from server.reports.robust import (
    LIARS,
    accuracy,
    hit_ratio,
    honest_range,
    robust_figure,
    trimmed_mean,
    trimmed_range,
)

RATIOS = st.floats(0, 1)


@given(values=st.lists(RATIOS, min_size=1, max_size=11), share=st.floats(0.0, 0.6))
def test_whichever_shards_lie_the_honest_trimmed_mean_is_in_the_range(
    values: list[float], share: float
) -> None:
    found, liars = trimmed_range(values, share), ceil(share * len(values))
    if found is None:
        assert liars >= len(values)
        return
    every = [trimmed_mean(honest) for honest in combinations(values, len(values) - liars)]
    assert found == pytest.approx((min(every), max(every)))


@given(honest=RATIOS, lie=RATIOS, share=st.floats(0.001, 0.5))
def test_whatever_is_lied_the_honest_ratio_is_in_the_range(
    honest: float, lie: float, share: float
) -> None:
    low, high = honest_range((1 - share) * honest + share * lie, share)
    assert low - 1e-9 <= honest <= high + 1e-9


@given(values=st.lists(RATIOS, min_size=1, max_size=40))
def test_a_trimmed_mean_is_between_the_values(values: list[float]) -> None:
    assert min(values) <= trimmed_mean(values) <= max(values)
    eight = [0.2] * 28 + [1.0] * 4
    assert trimmed_mean(eight) == pytest.approx(0.2)


def test_a_figure_leaves_out_shards_that_say_nothing() -> None:
    shards = [Counts((10, 0), (1, 0), 10, 5)] * 20 + [Counts.none(2)] * 12
    total = Counts((200, 0), (20, 0), 200, 100)
    found = robust_figure(total, shards, hit_ratio)
    assert found is not None and (found.plain, found.shards) == (0.1, 20)
    assert found.trimmed == pytest.approx(0.1)
    assert found.trimmed_honest[0.10] == pytest.approx((0.1, 0.1))
    assert found.honest[LIARS[1]] == pytest.approx((0.05 / 0.95, 0.1 / 0.95))
    assert robust_figure(Counts.none(2), [], accuracy) is None
    alone = robust_figure(total, [], accuracy)
    assert alone is not None and (alone.plain, alone.trimmed) == (0.5, None)
