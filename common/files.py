"""Where everything is written and deleted: whole or not at all, and for its owner alone.

Files are made with mode 0600 and folders with 0700, whatever the umask; results that somebody asked
for by name are left to the umask (write_output). A folder that is to be tightened or deleted later
carries a mark, a file named .vicinal: what has none is somebody else's, and stays as it is. Links
are not followed where this program alone chose the name.
"""

import errno
import logging
import os
import re
import secrets
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from common.errors import InputError

MARK: Final = ".vicinal"
# No write takes so long: whoever began it is gone.
BROKEN_OFF_SECONDS: Final = 3600.0
_MARKED: Final = b"Made by vicinal, which deletes what it has put here.\n"
# What a write or the making of a folder that was broken off leaves; a name that nobody else gives,
# as dates have eight digits too.
_PART: Final = re.compile(r"\..+\.[0-9a-f]{8}\.vicinal-part")
SECRET_BYTES: Final = 32
_OTHERS: Final = 0o077
# Of a secret: a group may read it, as servers' keys are shared (ssl-cert), and nobody may write.
_FORBIDDEN: Final = 0o027

_log = logging.getLogger(__name__)


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write through a temporary name, so that `path` is complete or absent, even after a crash.

    durable  wait until it is on the disk; without, a power failure may leave it damaged

    It is for its owner alone, as are folders that have to be made for it. Raises OSError, also for
    a link; nothing is left behind then.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "is a link", str(path))
    _make_folders(path.parent)
    _replace(path, data, 0o600, durable=durable)


def write_output(path: Path, data: bytes) -> None:
    """As write_file(), of a result that others may read as far as the umask lets them.

    A link is followed.
    """
    whole = path.resolve()
    whole.parent.mkdir(parents=True, exist_ok=True)
    _replace(whole, data, 0o666, durable=True)


def make_folder(path: Path) -> None:
    """Make a folder that is ours: for its owner alone, marked.

    One that is there and marked is tightened. One that is not marked stays as it is; if others can
    look into it, a line on stderr says so. Raises OSError.
    """
    with suppress(FileExistsError):
        _make_marked(path)
    if not path.is_dir():
        raise OSError(errno.EEXIST, "exists and is not a folder", str(path))
    found = path.stat()
    if not found.st_mode & _OTHERS:
        return
    mode = stat.S_IMODE(found.st_mode)
    if is_ours(path):
        path.chmod(mode & ~_OTHERS)
    else:
        _log.warning(
            "%s: other users of this machine can look into it (mode %04o), and vicinal did not "
            "make it: chmod 700 %s",
            *(path, mode, path),
        )


def is_ours(folder: Path) -> bool:
    """Whether a folder, which is no link, carries the mark and belongs to us."""
    try:
        owners = {os.lstat(one).st_uid for one in (folder, folder / MARK)}
        return (
            not folder.is_symlink()
            and owners == {os.geteuid()}
            and read_file(folder / MARK, most=len(_MARKED)) == _MARKED
        )
    except (OSError, InputError):
        return False


def require_ours(folder: Path, instead: str) -> None:
    """Raises InputError for a folder that is there and that this program did not make.

    instead  what to choose then, as "another --store"
    """
    if os.path.lexists(folder) and not is_ours(folder):
        raise InputError(
            f"{folder} is there, and vicinal did not make it: move it away, or choose {instead}"
        )


def remove_folder(folder: Path) -> bool:
    """Delete a folder with all that is in it, if it is ours; whether it is gone."""
    if is_ours(folder):
        shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)


def clear_parts(folder: Path, *, age: float = BROKEN_OFF_SECONDS) -> None:
    """Delete what writes into a folder left that were broken off, if they began `age` seconds ago.

    At any age only where nobody can be writing now. A folder that was being made has to be as old
    as usual, since no lock is needed to make one. Raises nothing: what cannot be deleted stays.
    """
    with suppress(OSError):
        for part in folder.iterdir():
            if not _PART.fullmatch(part.name):
                continue
            with suppress(OSError):
                found = os.lstat(part)
                least = BROKEN_OFF_SECONDS if stat.S_ISDIR(found.st_mode) else age
                if time.time() - found.st_mtime < least or found.st_uid != os.geteuid():
                    continue
                if stat.S_ISREG(found.st_mode):
                    part.unlink()
                elif stat.S_ISDIR(found.st_mode):
                    # Of a folder that was about to be marked.
                    (part / MARK).unlink(missing_ok=True)
                    part.rmdir()


def open_lock(path: Path) -> IO[str]:
    """A file to be locked and written to, made if it is not there. Raises OSError, also for a link.

    For a hard one too: what is written would be in another file. What is in it stays.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _CAREFULLY, 0o600)
    try:
        _require_file(descriptor, path)
        if os.fstat(descriptor).st_nlink > 1:
            raise OSError(errno.EMLINK, "has another name too", str(path))
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "r+")
    except BaseException:
        os.close(descriptor)
        raise


def open_file(path: Path) -> int:
    """A descriptor to read from. Raises OSError, also for a link and for what is no file."""
    descriptor = os.open(path, os.O_RDONLY | _CAREFULLY)
    try:
        _require_file(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_file(path: Path, *, most: int) -> bytes:
    """The bytes of a file. Raises OSError, also for a link; InputError for more than `most`."""
    with os.fdopen(open_file(path), "rb") as opened:
        if os.fstat(opened.fileno()).st_size > most:
            raise InputError(f"{path}: larger than {most} bytes")
        return opened.read(most)


def read_number(path: Path) -> int:
    """The number that a file of one line holds, at most 20 digits; 0 where there is none."""
    try:
        return max(0, int(read_file(path, most=21)))
    except (OSError, ValueError, InputError):
        return 0


def make_private(path: Path) -> None:
    """Make an empty file for its owner alone, or tighten one of ours. Raises OSError.

    One that is there is not opened: whoever closes a file takes away all locks that this process
    has on it, and SQLite's are such. Another process then cut off what was mapped here.
    """
    try:
        flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(path, flags, 0o600))
    except FileExistsError:
        pass
    found = os.lstat(path)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        path.chmod(0o600)


def require_secret(path: Path) -> None:
    """Raises InputError for a secret that everybody may read, or more than its owner change.

    A link is followed, as mounted secrets are links. One that is not there is no matter of this.
    """
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _FORBIDDEN:
            raise InputError(
                f"{path}: other users of this machine can read or change it (mode {mode:04o}): "
                f"chmod 600 {path}"
            )


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
    _make_folders(path.parent)
    part = _part_of(path)
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
        descriptor = open_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as opened:
        if os.fstat(opened.fileno()).st_mode & _OTHERS:
            raise InputError(f"{path}: others can read this secret: chmod 600 {path}")
        data = opened.read(SECRET_BYTES + 1)
    if len(data) != SECRET_BYTES:
        raise InputError(f"{path}: not a secret of {SECRET_BYTES} bytes")
    return data


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.vicinal-part")


# Not through a link; and the other end of a pipe is not waited for.
_CAREFULLY: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def _require_file(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _make_folders(folder: Path) -> None:
    """With all above it that are not there; mkdir's own mode would hold for the last alone."""
    for missing in reversed([one for one in (folder, *folder.parents) if not one.is_dir()]):
        with suppress(FileExistsError):
            missing.mkdir(mode=0o700)
            # A umask may have taken more away than was meant.
            missing.chmod(0o700)


def _make_marked(path: Path) -> None:
    """Raises FileExistsError, OSError. A kill leaves a part, and never a folder without a mark."""
    if os.path.lexists(path):
        raise FileExistsError
    _make_folders(path.parent)
    part = _part_of(path)
    part.mkdir(mode=0o700)
    try:
        part.chmod(0o700)
        _replace(part / MARK, _MARKED, 0o600, durable=False)
        # A folder gives way to another only if it is empty.
        part.rename(path)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError from error
        raise


def _replace(path: Path, data: bytes, mode: int, *, durable: bool) -> None:
    if path.exists() and not path.is_file():
        # A rename would put a file in the place of /dev/stdout and its like.
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    temporary = _part_of(path)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, mode), "wb") as opened:
            if mode == 0o600:
                os.fchmod(opened.fileno(), mode)
            opened.write(data)
            opened.flush()
            if durable:
                os.fsync(opened.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
