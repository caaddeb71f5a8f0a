"""Reading untrusted files within a size limit."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import InputError

MIB = 1 << 20


@contextmanager
def open_maybe_gzip(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open for reading, decompressed when the name ends in .gz.

    Raises InputError, also for what goes wrong while the caller reads: a missing file, a
    folder, a file that is damaged or not gzip.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as opened:
            yield opened
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error


def read_file(path: Path, *, limit: int) -> bytes:
    """The whole content, decompressed when the name ends in .gz, of at most `limit` bytes.

    Raises InputError; a compressed file counts by what it decompresses to.
    """
    with open_maybe_gzip(path) as opened:
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{path}: larger than {limit // MIB} MiB; split or filter it first")
    return data


def read_member(archive: Path, member: str, *, limit: int) -> bytes:
    """One member of a zip archive, read into memory: nothing is ever extracted by its path.

    Raises InputError when the archive is damaged, lacks the member, or the member is encrypted
    or larger than `limit` bytes, whatever size its directory entry claims.
    """
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as stream:
            data = stream.read(limit + 1)
    except KeyError:
        raise InputError(f"{archive}: holds no {member}") from None
    except (OSError, EOFError, RuntimeError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        # RuntimeError: encrypted, or (its subclass NotImplementedError) an odd compression.
        raise InputError(f"{archive}: cannot be read ({first_line(error)})") from error
    if len(data) > limit:
        raise InputError(f"{archive}: its {member} is larger than {limit // MIB} MiB")
    return data


def first_line(error: BaseException) -> str:
    """What an exception says, cut to one short line."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
