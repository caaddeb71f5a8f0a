"""Rows in a byte a number: close to what they were, and the same again when rounded again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import InputError
from common.wire.rounding import _REACH, Table, decode_rows, encode_rows, rounded

TABLES = arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.integers(1, 9)),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(TABLES)
def test_rounding_twice_is_rounding_once(table: Table) -> None:
    once = rounded(table)
    assert encode_rows(once) == encode_rows(table)
    assert np.array_equal(rounded(once), once)
    assert once.dtype == np.float32 and len(encode_rows(table)) == len(table) + table.size


def test_rows_at_the_edge_of_a_scale_are_rounded_once() -> None:
    edges = np.repeat(_REACH[:-1], 3).reshape(-1, 3)
    edges[:, 0] = np.nextafter(edges[:, 0], np.float32(0))
    edges[:, 2] = np.nextafter(edges[:, 2], np.float32(np.inf))
    table = edges.reshape(-1, 1)
    assert np.array_equal(rounded(rounded(table)), rounded(table))


@given(TABLES)
def test_a_row_is_off_by_half_a_step_at_most(table: Table) -> None:
    # A step is at most 1/116 of the largest number, or as small as steps get.
    largest = np.abs(table).max(axis=1, initial=0)
    step = np.maximum(largest / 116, 1e-4)
    assert (np.abs(rounded(table) - table) <= 0.501 * step[:, None]).all()


def test_zeros_stay_zeros() -> None:
    assert not rounded(np.zeros((2, 3), dtype=np.float32)).any()


@given(st.binary(max_size=20), st.integers(0, 4), st.integers(1, 4))
def test_hostile_bytes_are_refused_or_finite(data: bytes, rows: int, width: int) -> None:
    try:
        table = decode_rows(data, (rows, width))
    except InputError:
        assert len(data) != rows * (width + 1) or b"\x80" in data[rows:]
        return
    assert table.shape == (rows, width) and np.isfinite(table).all()


def test_a_number_below_the_range_is_refused() -> None:
    with pytest.raises(InputError, match="out of range"):
        decode_rows(b"\x80\x80", (1, 1))
