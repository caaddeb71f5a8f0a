"""Packed forms and deltas: exact, smaller where versions are near, and bounded when hostile."""

import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors.numpy import save

from common.errors import InputError
from common.versions.encodings import ENCODINGS, Encoding
from common.versions.transfers import pack, unpack

DTYPES = {"float32": np.float32, "float16": np.float16, "int8": np.int8}
OCTETS = arrays(np.uint8, st.sampled_from([0, 4, 64, 256]))


def form(octets: NDArray[np.uint8], encoding: Encoding, note: str = "") -> bytes:
    table = octets.view(DTYPES[encoding])
    return save({"table": table}, metadata={"note": note})


@given(OCTETS, st.sampled_from(ENCODINGS), st.data())
def test_what_is_packed_comes_back(
    octets: NDArray[np.uint8], encoding: Encoding, data: st.DataObject
) -> None:
    before = data.draw(arrays(np.uint8, len(octets)))
    new, old = form(octets, encoding, "new and longer"), form(before, encoding)
    assert unpack(pack(new, encoding), encoding, len(new)) == new
    assert unpack(pack(new, encoding, old), encoding, len(new), old) == new


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_delta_of_near_versions_is_smaller(encoding: Encoding) -> None:
    rng = np.random.default_rng(0)
    table = 20 * rng.standard_normal((500, 64))
    near = table + 0.1 * rng.standard_normal(table.shape)
    old, new = (save({"table": t.astype(DTYPES[encoding])}) for t in (table, near))
    assert len(pack(new, encoding, old)) < 0.9 * len(pack(new, encoding))


def test_a_base_of_another_size_is_refused() -> None:
    small, large = (form(np.zeros(size, np.uint8), "int8") for size in (64, 128))
    with pytest.raises(InputError, match="not of one size"):
        pack(large, "int8", small)
    with pytest.raises(InputError, match="not of one size"):
        unpack(pack(large, "int8"), "int8", len(large), small)
    with pytest.raises(InputError, match="no safetensors file"):
        unpack(pack(large, "int8"), "int8", len(large), b"\xff" * 100)


@given(st.binary(max_size=200), st.sampled_from(ENCODINGS), st.integers(0, 300), st.booleans())
def test_hostile_bytes_are_refused_or_of_the_size_asked_for(
    data: bytes, encoding: Encoding, size: int, compressed: bool
) -> None:
    base = form(np.zeros(64, np.uint8), encoding)
    packed = zstd.compress(data) if compressed else data
    for before in (None, base):
        with suppress(InputError):
            assert len(unpack(packed, encoding, size, before)) == size


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zstd.compress(bytes(256 << 20))
    assert len(bomb) < 64 << 10
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="does not give 1008 bytes"):
            unpack(bomb, "int8", 1000)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_window_beyond_the_limit_is_refused() -> None:
    wider: dict[int, int] = {zstd.CompressionParameter.window_log: 28}
    stream = zstd.ZstdCompressor(options=wider)
    wide = stream.compress(b"x" * 1000) + stream.flush()
    with pytest.raises(InputError, match="not what was packed"):
        unpack(wide, "int8", 992)
