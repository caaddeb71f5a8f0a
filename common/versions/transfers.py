"""Smaller ways to a form of a model version: packed alone, or as what changed since another.

    packed    zstandard of (header length, 8 bytes, little-endian; header; planes)
    header    what stands before the tensors in a safetensors file
    lanes     the tensors as unsigned integers of the width of their numbers; of a delta each
              minus the base's at its place, modulo their size, and zigzag: 0, −1, 1, −2, …
              become 0, 1, 2, 3, …, so that small differences have small numbers
    planes    all lanes' first bytes, all their second bytes, …: those that say how large a
              number is lie together, which is what compresses

docs/decisions/0014-versions.md holds this against other ways.
"""

from typing import Any, Final

import numpy as np
from backports import zstd
from numpy.typing import NDArray

from common.errors import InputError
from common.versions.encodings import Encoding

# Of the bytes that a decoder looks back on: 2²⁷ is what zstandard allows by itself.
MAX_WINDOW_LOG: Final = 27
# Higher ones gain hardly anything on what is nearly noise.
LEVEL: Final = 6
_LANES: Final[dict[Encoding, np.dtype[Any]]] = {
    "float32": np.dtype("<u4"),
    "float16": np.dtype("<u2"),
    "int8": np.dtype("u1"),
}
_LENGTH: Final = 8

Lanes = NDArray[Any]


def pack(form: bytes, encoding: Encoding, base: bytes | None = None) -> bytes:
    """The packed bytes of a form, or of its difference to `base`, a form of the same encoding.

    Raises InputError when the two do not have tensors of the same size.
    """
    header, lanes = split(form, encoding)
    if base is not None:
        gap = lanes - _base_lanes(base, encoding, len(lanes))
        lanes = gap << 1 ^ (0 - (gap >> _top_bit(gap)))
    length = len(header).to_bytes(_LENGTH, "little")
    return zstd.compress(length + header + planes(lanes), LEVEL)


def unpack(packed: bytes, encoding: Encoding, size: int, base: bytes | None = None) -> bytes:
    """The form of `size` bytes that pack() packed; the caller compares its digest.

    No more than `size` bytes and a length are ever decompressed. Raises InputError for what
    pack() would not have written, and for a base that does not fit.
    """
    data = _decompressed(packed, size + _LENGTH)
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    dtype = _LANES[encoding]
    if end > len(data) or (len(data) - end) % dtype.itemsize:
        raise InputError("model version: a transfer's header does not fit its form")
    octets = np.frombuffer(data, dtype=np.uint8, offset=end).reshape(dtype.itemsize, -1)
    lanes = np.ascontiguousarray(octets.T).view(dtype).ravel()
    if base is not None:
        gap = lanes >> 1 ^ (0 - (lanes & 1))
        lanes = gap + _base_lanes(base, encoding, len(lanes))
    return data[_LENGTH:end] + lanes.tobytes()


def split(form: bytes, encoding: Encoding) -> tuple[bytes, Lanes]:
    """Header and lanes of safetensors bytes. Raises InputError."""
    dtype = _LANES[encoding]
    end = _LENGTH + int.from_bytes(form[:_LENGTH], "little")
    if end > len(form) or (len(form) - end) % dtype.itemsize:
        raise InputError("model version: a transfer's form is no safetensors file of its encoding")
    return form[:end], np.frombuffer(form, dtype=dtype, offset=end)


def planes(lanes: Lanes) -> bytes:
    """All lanes' first bytes, then all their second bytes, and so on."""
    octets: bytes = lanes.view(np.uint8).reshape(-1, lanes.dtype.itemsize).T.tobytes()
    return octets


def _base_lanes(base: bytes, encoding: Encoding, count: int) -> Lanes:
    _, lanes = split(base, encoding)
    if len(lanes) != count:
        raise InputError("model version: a transfer and its base are not of one size")
    return lanes


def _top_bit(lanes: Lanes) -> int:
    return 8 * lanes.dtype.itemsize - 1


def _decompressed(packed: bytes, size: int) -> bytes:
    """Exactly `size` bytes, and never more in memory. Raises InputError."""
    limit: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    decompressor = zstd.ZstdDecompressor(options=limit)
    try:
        data = decompressor.decompress(packed, size + 1)
    except (zstd.ZstdError, MemoryError) as error:
        raise InputError("model version: a transfer is not what was packed") from error
    if len(data) != size or not decompressor.eof:
        raise InputError(f"model version: a transfer does not give {size} bytes")
    return data
