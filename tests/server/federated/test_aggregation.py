"""Updates put together: rows by hand, Flower's own strategies, and a liar among few."""

from collections.abc import Sequence

import numpy as np
import pytest
from flwr.server.strategy.aggregate import aggregate
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.federated import Update
from server.federated.aggregation import RULES, aggregated, trimmed_row
from server.federated.settings import AGGREGATIONS


def update(items: Sequence[int], *rows: Sequence[float]) -> Update:
    return Update(np.array(items, dtype=np.int64), np.array(rows, dtype=np.float32))


# Item 0 is sent by all, item 2 by two, item 3 by one, item 1 by nobody.
UPDATES = [
    update([0, 2], [1, 0], [2, 2]),
    update([0], [2, 0]),
    update([0, 2], [3, 3], [4, 6]),
    update([0, 3], [4, 3], [8, 9]),
    update([0], [100, -30]),
]


def together(rule: str, share: float = 0.2, updates: Sequence[Update] = UPDATES) -> Update:
    return aggregated(updates, rule, item_count=5, width=2, malicious_share=share)


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        # Means of five, of two and of one.
        ("fedavg", [[22, -4.8], [3, 4], [8, 9]]),
        # Middle values; of two, halfway between.
        ("median", [[3, 0], [3, 4], [8, 9]]),
        # One of five is cut off at each end; of two and of one, none can be.
        ("trimmed-mean", [[3, 1], [3, 4], [8, 9]]),
    ],
)
def test_rows_that_were_not_sent_are_no_votes(rule: str, rows: list[list[float]]) -> None:
    found = together(rule)
    assert found.items.tolist() == [0, 2, 3]
    assert found.rows == pytest.approx(np.array(rows))


def test_krum_takes_the_update_that_is_nearest_to_others() -> None:
    # Squared distances of whole tables; n − f − 2 = 2 nearest. Update 1: to 0 it is 1 + 8 = 9, to 2
    # 1 + 9 + 52 = 62. Update 0: 9 and 4 + 9 + 4 + 16 = 33. Nobody has a smaller sum than 42.
    found = together("krum")
    assert found.items.tolist() == [0, 2]
    assert found.rows.tolist() == [[1, 0], [2, 2]]


def test_multikrum_leaves_the_farthest_out() -> None:
    found = together("multikrum")
    assert found.items.tolist() == [0, 2, 3]
    assert found.rows == pytest.approx(np.array([[2.5, 1.5], [3, 4], [8, 9]]))


def test_bulyan_by_hand() -> None:
    # f = 1 of 7: five are selected, the two far ones are not, and of every coordinate the three
    # values nearest to the median count.
    values = [0.0, 1.0, 2.0, 3.0, 4.0, 50.0, 90.0]
    updates = [update([1], [value, -value]) for value in values]
    found = together("bulyan", 1 / 7, updates)
    assert found.rows == pytest.approx(np.array([[2, -2]]))
    with pytest.raises(InputError, match="needs 7: ask more"):
        together("bulyan", 1 / 6, updates[:6])


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_where_all_send_all_rows_it_is_flowers_aggregate(clients: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables = rng.normal(size=(clients, 5, 2)).astype(np.float32)
    updates = [Update(np.arange(5), table) for table in tables]
    results = [([table.astype(np.float64)], 1) for table in tables]
    assert together("fedavg", updates=updates).rows == pytest.approx(
        aggregate(results)[0], abs=1e-5
    )


@given(st.integers(1, 30), st.integers(0, 15), st.integers(0, 2**32))
def test_whole_rows_are_trimmed(count: int, malicious: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    most = min(malicious, (count - 1) // 2)
    kept = np.sort(rows, axis=0)[most : count - most]
    assert trimmed_row(rows, malicious) == pytest.approx(kept.mean(0), abs=1e-5)


@pytest.mark.parametrize("rule", [name for name in RULES if name != "fedavg"])
def test_a_liar_moves_no_robust_rule_far(rule: str) -> None:
    honest = [update([1, 4], [1 + place / 100, 1], [0, 1]) for place in range(15)]
    lies = [update([1, 4], [1000, 1000], [-1000, 1000])]
    row = together(rule, 1 / 16, honest + lies).rows
    assert row == pytest.approx(np.array([[1.07, 1], [0, 1]]), abs=0.08)
    assert together("fedavg", 1 / 16, honest + lies).rows[0, 0] > 60


def test_liars_who_all_send_a_row_that_few_send_do_not_decide_it() -> None:
    # f = 4 of 40: 5 honest clients send item 1, and all 4 liars. They are a tenth of the clients,
    # and nearly half of the row's.
    honest = [update([0, 1], [0, 1], [0, place / 10]) for place in range(5)]
    honest += [update([0], [0, 1 + place / 100]) for place in range(31)]
    lies = [update([0, 1], [0, 1], [0, 1.2])] * 4
    found = together("trimmed-mean", 0.1, honest + lies)
    assert found.items.tolist() == [0, 1]
    assert found.rows[1] == pytest.approx([0, 0.4])


@pytest.mark.parametrize("rule", RULES)
def test_nothing_sent_changes_nothing(rule: str) -> None:
    assert len(together(rule, updates=[]).items) == 0
    empty = Update(np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.float32))
    assert len(together(rule, 0.0, [empty] * 4).items) == 0


def test_long_rows_are_cut_before_they_count() -> None:
    found = aggregated(
        [update([0], [30, 40])], "fedavg", item_count=5, width=2, malicious_share=0, row_norm=5
    )
    assert found.rows == pytest.approx(np.array([[3, 4]]))


@pytest.mark.parametrize(
    ("items", "rows"),
    [([5], [[1, 1]]), ([0], [[1, 1, 1]])],
)
def test_an_update_of_another_table_is_refused(items: list[int], rows: list[list[float]]) -> None:
    with pytest.raises(InputError, match="of no table of 5 items × 2"):
        together("fedavg", updates=[update(items, *rows)])


@pytest.mark.parametrize(
    ("items", "rows"),
    [
        ([1, 0], [[1, 1], [1, 1]]),
        ([1, 1], [[1, 1], [1, 1]]),
        ([-1], [[1, 1]]),
        ([0], [[np.nan, 1]]),
        ([0], [[np.inf, 1]]),
        ([0, 1], [[1, 1]]),
    ],
)
def test_what_is_no_update_is_refused(items: list[int], rows: list[list[float]]) -> None:
    with pytest.raises(InputError, match="update: "):
        update(items, *rows)


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(InputError, match="median"):
        together("medain")


def test_every_name_is_a_rule() -> None:
    assert tuple(RULES) == AGGREGATIONS
