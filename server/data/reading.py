"""Reading untrusted files within a size limit, whatever they are packed in.

A packed file counts by what it unpacks to. Nothing is unpacked to a disk, and no name in an archive
is taken for a path.
"""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from backports import zstd

from common.errors import InputError
from server.data.magic import first_bytes, packing_of

MIB: Final = 1 << 20
# Ends of names that say how a file is packed.
PACKINGS: Final = (".gz", ".xz", ".bz2", ".zst")
# Files may ask for a window of gigabytes to be unpacked in; packers at their highest settings take
# 64 MiB, and `zstd --ultra` twice that.
MAX_WINDOW_LOG: Final = 27
XZ_MEMORY: Final = 256 * MIB
CHUNK: Final = MIB
# Of a file, enough to tell what is in it.
PROBE: Final = 4096
_ERRORS: Final = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)


@contextmanager
def open_packed(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open for reading, unpacked when its first bytes or the end of its name say that it is packed.

    Raises InputError, also for what goes wrong while the caller reads: a missing file, a
    folder, a file that is damaged or not packed so.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        packing = packing_of(first_bytes(path), path.suffix.lower())
        with path.open("rb") as raw, _unpacking(raw, packing) as opened:
            yield opened
    except _ERRORS as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error


def _unpacking(raw: io.BufferedReader, suffix: str) -> io.BufferedIOBase:
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if suffix == ".bz2":
        return bz2.BZ2File(raw)
    if suffix == ".xz":
        return io.BufferedReader(cast(io.RawIOBase, _Xz(raw)), CHUNK)
    if suffix == ".zst":
        limited: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
        return cast(io.BufferedIOBase, zstd.ZstdFile(raw, options=limited))
    return raw


class _Xz(io.RawIOBase):
    """lzma's file object has no bound on memory; its decompressor has."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._raw = raw
        self._reader: lzma.LZMADecompressor | None = None
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while True:
            if self._reader is None:
                self._left = self._left.lstrip(b"\x00") or self._raw.read(CHUNK)
                if not self._left:
                    return 0
                self._reader = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=XZ_MEMORY)
            if self._reader.needs_input and not self._left:
                self._left = self._raw.read(CHUNK)
                if not self._left:
                    raise EOFError("the file is cut off")
            unpacked = self._reader.decompress(self._left, len(buffer))
            self._left = b""
            if self._reader.eof:
                self._left, self._reader = self._reader.unused_data, None
            if unpacked:
                buffer[: len(unpacked)] = unpacked
                return len(unpacked)


def begins(path: Path) -> bytes:
    """How a file begins, unpacked. Raises InputError."""
    with open_packed(path) as opened:
        return opened.read(PROBE)


def read_file(path: Path, *, limit: int) -> bytes:
    """The whole content, unpacked where the name says that it is packed, of at most `limit` bytes.

    Raises InputError; a packed file counts by what it unpacks to.
    """
    with open_packed(path) as opened:
        data = _up_to(limit, opened)
    if data is None:
        raise InputError(f"{path}: larger than {limit // MIB} MiB; split or filter it first")
    return data


def _up_to(limit: int, stream: io.BufferedIOBase) -> bytes | None:
    """All that comes; None for more than `limit` bytes.

    By pieces: what is asked for at a time is set aside at once, whatever comes.
    """
    # It gives its buffer away; joined parts would be there twice.
    whole, size = io.BytesIO(), 0
    while size <= limit and (part := stream.read(CHUNK)):
        size += whole.write(part)
    return None if size > limit else whole.getvalue()


@contextmanager
def open_member(archive: Path, member: str) -> Iterator[io.BufferedIOBase]:
    """One member of a zip archive. Raises InputError, also for what goes wrong while it is read."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as stream:
            yield cast(io.BufferedIOBase, stream)
    except KeyError:
        raise InputError(f"{archive}: holds no {member}") from None
    except (*_ERRORS, RuntimeError, ValueError, struct.error, zipfile.BadZipFile) as error:
        # RuntimeError: encrypted, or (its subclass NotImplementedError) an odd compression.
        raise InputError(f"{archive}: cannot be read ({first_line(error)})") from error


def read_member(archive: Path, member: str, *, limit: int) -> bytes:
    """One member of a zip archive, read into memory: nothing is ever extracted by its path.

    Raises InputError when the archive is damaged, lacks the member, or the member is encrypted
    or larger than `limit` bytes, whatever size its directory entry claims.
    """
    with open_member(archive, member) as stream:
        data = _up_to(limit, stream)
    if data is None:
        raise InputError(f"{archive}: its {member} is larger than {limit // MIB} MiB")
    return data


def members_of(archive: Path) -> list[str]:
    """The files in a zip archive, without folders and what macOS adds. Raises InputError."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [each.filename for each in opened.infolist()]
    except (*_ERRORS, RuntimeError, ValueError, struct.error, zipfile.BadZipFile) as error:
        raise InputError(f"{archive}: cannot be read ({first_line(error)})") from error
    return [
        name
        for name in names
        if name and not name.endswith("/") and "__MACOSX" not in name
        if not Path(name).name.startswith(".")
    ]


def first_line(error: BaseException) -> str:
    """What an exception says, cut to one short line."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
