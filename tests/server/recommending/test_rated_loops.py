"""Counting in bitmaps against adding up columns."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.recommending.rated_loops import add_counts, bit_counts


@given(st.integers(0, 700), st.integers(1, 200), st.floats(0, 1), st.integers(0, 10_000))
def test_bitmaps_are_added_up(chosen: int, users: int, chance: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = np.zeros((max(chosen, 1), -(-users // 64) * 64), dtype=bool)
    bits[:, :users] = rng.random((len(bits), users)) < chance
    bitmaps = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
    order = rng.permutation(len(bits))[:chosen]
    counts = rng.integers(0, 1000, users).astype(np.int32)
    expected = counts + bits[order][:, :users].sum(0)
    add_counts(bit_counts(bitmaps, order), counts)
    np.testing.assert_array_equal(counts, expected)
