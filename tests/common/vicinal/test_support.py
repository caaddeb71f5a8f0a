"""Items without support come last, in an order that other users cannot change."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.models import MODELS
from common.ranking import top_items
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings
from common.vicinal.support import unsupported_last
from common.vicinal.tuning import ServedModel, tuned_scores
from tests.support.ratings import from_rows

ITEMS = 400


def scores(seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=ITEMS) * scale).astype(np.float32)


@given(
    st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=60),
    st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=60),
    st.sampled_from([1e-3, 1.0, 1e30]),
)
def test_supported_keep_their_scores_and_stand_above_all_others(
    own: list[int], others: list[int], scale: float
) -> None:
    before = scores(scale=scale)
    after = unsupported_last(before, from_rows([own, others], ITEMS))
    supported = sorted({*own, *others})
    rest = np.setdiff1d(np.arange(ITEMS), supported)
    assert after.dtype == np.float32 and np.isfinite(after).all()
    np.testing.assert_array_equal(after[supported], before[supported])
    if supported:
        assert after[rest].max() < after[supported].min()


def test_nobody_else_moves_an_item_of_the_tail() -> None:
    own, before = [3, 5, 8], scores()
    first = unsupported_last(before, from_rows([own, [10, 11]], ITEMS))
    more = unsupported_last(before, from_rows([own, [10, 11], [12, 13, 14]], ITEMS))
    tail = np.setdiff1d(np.arange(ITEMS), [3, 5, 8, 10, 11, 12, 13, 14])
    # Neither what the model says nor what others rated: only the order is drawn.
    other_model = unsupported_last(scores(seed=9), from_rows([own, [10, 11]], ITEMS))
    for changed in (more, other_model):
        np.testing.assert_array_equal(np.argsort(first[tail]), np.argsort(changed[tail]))


def test_users_have_tails_of_their_own_and_every_item_its_turn() -> None:
    zeros = np.zeros(ITEMS, dtype=np.float32)
    firsts = set()
    for user in range(ITEMS - 1):
        tail = unsupported_last(zeros, from_rows([[user, user + 1]], ITEMS))
        tail[[user, user + 1]] = -np.inf
        firsts.add(int(np.argmax(tail)))
    # 399 draws of nearly 400 items hit about 63 % of them.
    assert 220 < len(firsts) < 285


def test_fine_tuning_ranks_by_support_only_where_it_is_asked_for() -> None:
    items = np.ones((ITEMS, 2), dtype=np.float32)
    items[7] = 50
    served = ServedModel(MODELS["mf"], {"item_embedding": items})
    rows = from_rows([[1, 2], [1, 2], [2]], ITEMS)
    neighborhood = Neighborhood(rows, {"user_embedding": np.ones((3, 2), dtype=np.float32)})
    plain = tuned_scores(served, neighborhood, VicinalSettings(3, 0.1, 0))
    supported = tuned_scores(served, neighborhood, VicinalSettings(3, 0.1, 0, min_support=2))
    assert top_items(plain, np.array([], dtype=np.int32), 1).tolist() == [7]
    assert set(top_items(supported, np.array([], dtype=np.int32), 2).tolist()) == {1, 2}


def mixed(value: int) -> int:
    """SplitMix64's finalizer in Python's own integers."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


def test_the_order_is_splitmix64_s() -> None:
    # Its first outputs from state 0 are published with many implementations.
    step = 0x9E3779B97F4A7C15
    assert mixed(step) == 0xE220A8397B1DCDAF
    own = [3, 5, 8]
    seed = sum(mixed(item + 1) for item in own)
    draws = {
        item: mixed((seed + (item + 1) * step) % 2**64) >> 40
        for item in range(ITEMS)
        if item not in own
    }
    # A draw is how far an item stands below the supported ones.
    expected = sorted(draws, key=lambda item: (draws[item], item))
    after = unsupported_last(np.zeros(ITEMS, dtype=np.float32), from_rows([own], ITEMS))
    assert top_items(after, np.array(own, dtype=np.int32), 20).tolist() == expected[:20]
