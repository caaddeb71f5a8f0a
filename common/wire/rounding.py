"""User parameters on the wire: rows of numbers rounded to a byte each.

A row has one scale s of a fixed grid, and its numbers are whole multiples of s from −127 to 127.
Scales are a factor of 127/116.6 apart: the largest number of a row that does not fit the smaller
scale is more than 116.6 steps of its own, which rounds to 117 and still does not fit. So what was
rounded once is not changed by rounding it again, and server and device fine-tune on the same
numbers.

Shapes: k rows, d width.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError

Table = NDArray[np.float32]

_MOST: Final = 127
_RATIO: Final = _MOST / 116.6
_SCALES: Final[Table] = (_RATIO ** (np.arange(256) - 128)).astype(np.float32)
# The largest number that each scale can write.
_REACH: Final[Table] = _SCALES * np.float32(_MOST)


def rounded(table: Table) -> Table:
    """What a device gets of finite numbers [k, d]."""
    return decode_rows(encode_rows(table), table.shape)


def encode_rows(table: Table) -> bytes:
    """K bytes of scales, then k × d bytes of multiples."""
    largest = np.abs(table).max(axis=1, initial=0)
    places = np.minimum(np.searchsorted(_REACH, largest), len(_SCALES) - 1)
    steps = np.rint(table / _SCALES[places][:, None]).clip(-_MOST, _MOST)
    encoded: bytes = places.astype(np.uint8).tobytes() + steps.astype(np.int8).tobytes()
    return encoded


def decode_rows(data: bytes, shape: tuple[int, ...]) -> Table:
    """Rows [k, d]. Raises InputError for bytes that encode_rows() would not write."""
    rows = shape[0]
    if len(data) != rows + int(np.prod(shape)):
        raise InputError(f"offload package: user parameters of {len(data)} bytes, not {shape}")
    places = np.frombuffer(data, dtype=np.uint8, count=rows)
    steps = np.frombuffer(data, dtype=np.int8, offset=rows).reshape(shape)
    if steps.size and steps.min() < -_MOST:
        raise InputError("offload package: a user parameter is out of range")
    table: Table = steps.astype(np.float32) * _SCALES[places][:, None]
    return table
