"""Named arrays from untrusted safetensors bytes."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from common.errors import InputError


def read_tables(data: bytes, what: str) -> dict[str, NDArray[Any]]:
    """The arrays by name; `what` names the file in the InputError for anything else."""
    try:
        return load(data)
    # KeyError: a dtype that safetensors knows and numpy does not, such as BF16.
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{what}: not a safetensors file of numpy's types ({error})") from error


def read_metadata(data: bytes) -> dict[str, str]:
    """What a safetensors file says of itself in words; nothing where it says nothing, or is none.

    data  the file, or its beginning
    """
    length = int.from_bytes(data[:8], "little")
    try:
        said = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        return {str(key): str(value) for key, value in said.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


_DTYPES: Final = {"F32": np.float32, "I64": np.int64, "I32": np.int32, "U8": np.uint8}


def map_file(path: Path, what: str) -> NDArray[np.uint8]:
    """The bytes of a file, read-only and not copied: they must not change while they are used.

    Raises InputError for a file that is empty or cannot be read.
    """
    try:
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except (OSError, ValueError) as error:
        raise InputError(f"{what}: cannot be read ({error})") from error


def map_tables(path: Path, what: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name, read-only, in memory once for all processes that map it.

    Raises InputError as read_tables() does, and for a type that this project does not write.
    """
    mapped = map_file(path, what)
    tables: dict[str, NDArray[Any]] = {}
    try:
        # safe_open checks that the tables fill the bytes behind the header without a gap.
        with safe_open(path, framework="np") as opened:
            offset = 8 + int.from_bytes(mapped[:8].tobytes(), "little")
            for name in opened.offset_keys():
                view = opened.get_slice(name)
                dtype, shape = np.dtype(_DTYPES[view.get_dtype()]), view.get_shape()
                end = offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
                tables[name] = mapped[offset:end].view(dtype).reshape(shape)
                offset = end
    except (SafetensorError, KeyError, OSError) as error:
        raise InputError(f"{what}: not a safetensors file of our types ({error})") from error
    return tables
