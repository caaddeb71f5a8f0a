"""Tables of numbers in untrusted files: npy, npz and safetensors.

What a header claims is held against the file's size before anything is read or allocated, and
nothing is ever unpickled.
"""

import io
import math
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from common.errors import InputError
from server.data.reading import first_line, read_member

# What a model version may have at most.
MAX_BYTES: Final = 4 << 30
MAX_HEADER: Final = 10_000
_READERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# What numpy raises for a header that is none.
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    EOFError,
    SyntaxError,
    TokenError,
    RecursionError,
    MemoryError,
)
# Of safetensors; numpy has no bfloat16.
_TENSORS: Final = {"F16", "F32", "F64", "I32", "I64"}
# Files that run code when they are read, by the ends of their names.
PICKLES: Final = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")


def refuse_pickles(path: Path) -> None:
    """Raises InputError for a file that could run code when it is read."""
    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{path}: such files can run code and are not read. Export the table, as with "
            "numpy.save('users.npy', weight.detach().cpu().numpy())"
        )


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an npy file. Raises InputError."""
    size = checked_size(path)
    try:
        with path.open("rb") as stream:
            return _array(stream, size, str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_npz(path: Path, member: str | None, usual: Sequence[str]) -> NDArray[Any]:
    """One array of an npz file: the member of that name, the only one, or one of a usual name.

    Raises InputError.
    """
    checked_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
    except (OSError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an npz file ({first_line(error)})") from error
    names = [name.removesuffix(".npy") for name in sizes if name.endswith(".npy")]
    chosen = _chosen(path, names, member, usual) + ".npy"
    if sizes[chosen] > MAX_BYTES:
        raise InputError(f"{path}: {chosen} is larger than {MAX_BYTES >> 30} GiB")
    data = read_member(path, chosen, limit=MAX_BYTES)
    return _array(io.BytesIO(data), len(data), f"{path}: {chosen}")


def read_safetensors(path: Path, member: str | None, usual: Sequence[str]) -> NDArray[Any]:
    """One tensor of a safetensors file, found as `read_npz` finds an array. Raises InputError."""
    checked_size(path)
    try:
        # safe_open checks that the tensors fill the bytes behind the header without a gap.
        with safe_open(path, framework="np") as opened:
            chosen = _chosen(path, list(opened.keys()), member, usual)
            kind = opened.get_slice(chosen).get_dtype()
            if kind not in _TENSORS:
                raise InputError(f"{path}: {chosen} is {kind}: store it as float32")
            tensor: NDArray[Any] = opened.get_tensor(chosen)
            return tensor
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({first_line(error)})") from error


def checked_size(path: Path) -> int:
    """Bytes of a file. Raises InputError where there is none, or more than are read."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES >> 30} GiB, which no model may be")
    return size


def _chosen(path: Path, names: Sequence[str], member: str | None, usual: Sequence[str]) -> str:
    if member is not None:
        if member in names:
            return member
        raise InputError(f"{path}: holds no {member[:60]!r}; it holds {_listed(names)}")
    if len(names) == 1:
        return names[0]
    known = [name for name in usual if name in names]
    if len(known) != 1:
        raise InputError(f"{path}: holds {_listed(names)}: write which one, as {path.name}:NAME")
    return known[0]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:8])
    return (shown or "no arrays") + (", …" if len(names) > 8 else "")


def _array(stream: BinaryIO, size: int, what: str) -> NDArray[Any]:
    """An array whose header fits the `size` bytes that there are."""
    try:
        version = npy.read_magic(stream)
        if version not in _READERS:
            raise InputError(f"{what}: npy files of version {version[0]} are not read")
        with warnings.catch_warnings():
            # numpy says so on stderr of headers that Python 2 wrote, and of damaged ones.
            warnings.simplefilter("ignore")
            shape, fortran, dtype = _READERS[version](stream, max_header_size=MAX_HEADER)
        if dtype.hasobject:
            raise InputError(
                f"{what}: holds Python objects, which can run code: save a table of numbers, as "
                "with numpy.save(FILE, numpy.asarray(rows, dtype='float32'))"
            )
        claimed = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or claimed != size - stream.tell():
            raise InputError(
                f"{what}: its header claims {claimed} bytes, and {size - stream.tell()} are there"
            )
        flat = np.frombuffer(stream.read(claimed), dtype=dtype)
        return flat.reshape(shape, order="F" if fortran else "C")
    except _UNREADABLE as error:
        raise InputError(f"{what}: not an npy file ({first_line(error)})") from error
