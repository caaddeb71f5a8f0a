"""Bytes on the wire: numbers of variable length, and zstd with a bound on what comes out."""

from typing import Final

import numpy as np
from backports import zstd
from numpy.typing import NDArray

from common.errors import InputError

# A gap of up to 2³¹ needs five groups of seven bits.
MAX_VARINT: Final = 5
_WRITTEN: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.content_size_flag: 0,
}
# A frame may ask for a window of its own to be unpacked in; level 3 takes 2 MiB at most.
_READ: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 21}


def pack(data: bytes) -> bytes:
    """As one zstd frame that does not say its size: the reader knows what to expect."""
    return zstd.compress(data, options=_WRITTEN)


def unpack(data: bytes, *, most: int) -> bytes:
    """At most `most` bytes from one whole frame. Raises InputError for anything else."""
    reader = zstd.ZstdDecompressor(options=_READ)
    try:
        unpacked = reader.decompress(data, most + 1)
    except zstd.ZstdError as error:
        raise InputError("offload package: a compressed part is damaged") from error
    if len(unpacked) > most:
        raise InputError(f"offload package: a compressed part is larger than {most} bytes")
    if not reader.eof or reader.unused_data:
        raise InputError("offload package: a compressed part is cut off, or more follows it")
    return unpacked


def encode_varints(values: NDArray[np.int64]) -> bytes:
    """LEB128 of non-negative integers below 2³⁵.

    >>> encode_varints(np.array([1, 300])).hex()
    '01ac02'
    """
    groups = values[:, None] >> (7 * np.arange(MAX_VARINT))
    used = np.maximum((groups > 0).sum(axis=1), 1)
    position = np.arange(MAX_VARINT)
    more = position < used[:, None] - 1
    encoded = (groups & 0x7F) | (more * 0x80)
    octets: NDArray[np.uint8] = encoded[position < used[:, None]].astype(np.uint8)
    return octets.tobytes()


def decode_varints(data: bytes, count: int) -> NDArray[np.int64]:
    """Exactly `count` LEB128 integers that fill the bytes; InputError otherwise."""
    octets = np.frombuffer(data, dtype=np.uint8).astype(np.int64)
    ends = np.flatnonzero(octets < 0x80)
    if len(ends) != count or (count and ends[-1] != len(octets) - 1) or (not count and len(data)):
        raise InputError(f"offload package: the item ids are not {count} numbers")
    starts = np.concatenate([[0], ends[:-1] + 1]) if count else ends
    place = np.arange(len(octets)) - np.repeat(starts, ends - starts + 1)
    if len(place) and place.max() >= MAX_VARINT:
        raise InputError("offload package: an item id is too long")
    shifted = (octets & 0x7F) << (7 * place)
    sums: NDArray[np.int64] = np.add.reduceat(shifted, starts) if count else shifted
    return sums
