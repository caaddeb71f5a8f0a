"""Numbers and compressed parts: what goes in comes out, and a stranger's bytes take no memory."""

import numpy as np
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.wire.packing import decode_varints, encode_varints, pack, unpack


@given(st.binary(max_size=300))
def test_what_was_packed_comes_back(data: bytes) -> None:
    assert unpack(pack(data), most=len(data)) == data
    if len(data) > 1:
        with pytest.raises(InputError, match=f"larger than {len(data) - 1} bytes"):
            unpack(pack(data), most=len(data) - 1)


@settings(max_examples=500)
@given(st.binary(max_size=60), st.integers(0, 1000), st.binary(max_size=40), st.data())
def test_hostile_frames_are_refused_or_small(
    hostile: bytes, most: int, good: bytes, data: st.DataObject
) -> None:
    octets = bytearray(pack(good))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    for frame in (hostile, b"\x28\xb5\x2f\xfd" + hostile, bytes(octets)):
        try:
            assert len(unpack(frame, most=most)) <= most
        except InputError:
            continue


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        pack(b"abc")[:-1],
        pack(b"abc") + b"x",
        pack(b"abc") + pack(b"abc"),
        zstd.compress(bytes(1 << 24)),
        pack(bytes(1 << 24)),
    ],
)
def test_other_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(InputError, match="compressed part"):
        unpack(frame, most=1000)


@given(st.lists(st.integers(0, 2**35 - 1), max_size=40))
def test_numbers_come_back(values: list[int]) -> None:
    data = encode_varints(np.array(values, dtype=np.int64))
    assert decode_varints(data, len(values)).tolist() == values
    if values:
        with pytest.raises(InputError):
            decode_varints(data[:-1], len(values))
        with pytest.raises(InputError):
            decode_varints(data, len(values) - 1)


@given(st.binary(max_size=40), st.integers(0, 40))
def test_hostile_numbers_are_refused_or_read(data: bytes, count: int) -> None:
    try:
        values = decode_varints(data, count)
    except InputError:
        return
    assert len(values) == count and (values >= 0).all() and (values < 2**35).all()
