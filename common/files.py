"""Writing files whole or not at all, and secrets that a program keeps."""

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from common.errors import InputError

SECRET_BYTES: Final = 32


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write through a temporary name, so that `path` is complete or absent, even after a crash.

    durable  wait until it is on the disk; without, a power failure may leave it damaged

    A link is followed. Raises OSError; nothing is left behind then.
    """
    whole = path.resolve()
    if whole.exists() and not whole.is_file():
        # A rename would put a file in the place of /dev/stdout and its like.
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    whole.parent.mkdir(parents=True, exist_ok=True)
    temporary = whole.with_name(f".{whole.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as opened:
            opened.write(data)
            opened.flush()
            if durable:
                os.fsync(opened.fileno())
        os.replace(temporary, whole)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def stored_secret(path: Path) -> bytes:
    """32 random bytes that are the same every time; made, for the owner alone, when they are not.

    Raises InputError for a file that is something else, or that others can read, OSError.
    """
    if not path.is_symlink() and not path.exists():
        with suppress(FileExistsError):
            write_secret(path, secrets.token_bytes(SECRET_BYTES))
    return read_secret(path)


def write_secret(path: Path, secret: bytes) -> None:
    """Write a new file for the owner alone, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        with os.fdopen(os.open(part, flags, 0o600), "wb") as opened:
            opened.write(secret)
            opened.flush()
            os.fsync(opened.fileno())
        # Unlike a rename it never takes another process's secret away.
        os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_secret(path: Path) -> bytes:
    """Raises InputError for a file that is no secret, is a link, or that others can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as opened:
        if os.fstat(opened.fileno()).st_mode & 0o077:
            raise InputError(f"{path}: others can read this secret: chmod 600 {path}")
        data = opened.read(SECRET_BYTES + 1)
    if len(data) != SECRET_BYTES:
        raise InputError(f"{path}: not a secret of {SECRET_BYTES} bytes")
    return data
