"""Safetensors bytes from anybody: arrays, or one kind of error."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from common.errors import InputError
from common.tables import map_tables, read_tables


def encoded(dtype: str, size: int, *, shape: tuple[int, ...] = (8,)) -> bytes:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"a": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def test_tables_are_read(tmp_path: Path) -> None:
    tables: dict[str, NDArray[Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.zeros(0, dtype=np.uint8),
        "c": np.arange(5, dtype=np.int64) - (1 << 40),
        "d": np.array([[-7]], dtype=np.int32),
        "e": np.arange(3, dtype=np.uint8),
    }
    read = read_tables(save(tables), "file")
    (tmp_path / "file").write_bytes(save(tables))
    mapped = map_tables(tmp_path / "file", "file")
    assert set(read) == set(mapped) == set(tables)
    for name, table in tables.items():
        for found in (read[name], mapped[name]):
            np.testing.assert_array_equal(found, table)
            assert found.dtype == table.dtype
        assert not mapped[name].flags.writeable


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(8),
        b"\xff" * 8,
        encoded("BF16", 16),
        encoded("F8_E5M2", 8),
        encoded("F4", 4),
        encoded("NONE", 8),
        encoded("F32", 31),
        encoded("F32", 32)[:-1],
        encoded("F32", 0, shape=(2**62, 2**62)),
    ],
    ids=range(10),
)
def test_anything_else_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^file: not a safetensors file"):
        read_tables(data, "file")
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(InputError, match=r"^file: (not a safetensors file|cannot be read)"):
        map_tables(tmp_path / "file", "file")


def test_a_file_that_is_not_there_cannot_be_mapped(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^file: cannot be read"):
        map_tables(tmp_path / "none", "file")


@given(st.binary(max_size=100), st.booleans())
def test_hostile_bytes_are_refused_or_read(data: bytes, framed: bool) -> None:
    try:
        read_tables(len(data).to_bytes(8, "little") + data if framed else data, "file")
    except InputError as error:
        assert "\n" not in str(error)
