"""Writing files whole or not at all."""

import errno
import os
import secrets
from pathlib import Path


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
