"""A device's store of fetched model versions, in their forms.

    FOLDER/DIGEST.safetensors    a form's bytes, whose SHA-256 is DIGEST

Many processes may share a folder: files appear whole, every load checks the name against the
bytes, and what any of them uses is locked, so that none deletes it to make room. When a file was
last used is its modification time.
"""

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final, final

from common.errors import InputError, VicinalError
from common.files import (
    clear_parts,
    open_file,
    read_file,
    write_file,
)
from common.versions.encodings import Form, decode_form
from common.versions.version import MAX_BYTES, ModelVersion, is_digest, version_digest

_SUFFIX: Final = ".safetensors"
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(text: str) -> int:
    """Bytes of `500M`, `2GiB` or `65536`. Raises InputError.

    >>> parse_size("64K")
    65536
    """
    match = re.fullmatch(r"(\d{1,15})\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None or not int(match[1]):
        raise InputError(f"size {text[:40]!r}: give bytes, or as in 500M or 2GiB")
    return int(match[1]) * _UNITS[match[2].upper()]


@final
class VersionStore:
    """A folder of forms; it is made when the first one is saved.

    max_bytes  of all files together; the least recently used leave, never those in use
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._locks: dict[str, int] = {}

    def path(self, digest: str) -> Path:
        """Where a form is. Raises InputError for what cannot be a digest."""
        if not is_digest(digest):
            raise InputError(f"{digest[:80]!r} is not the name of a model version")
        return self.folder / f"{digest}{_SUFFIX}"

    def digests(self) -> list[str]:
        """Digests of the forms that are here, unverified, the most recently used first."""
        files = sorted(self._files(), key=lambda file: file[1].st_mtime_ns, reverse=True)
        return [path.name.removesuffix(_SUFFIX) for path, _ in files]

    def load(self, form: Form, version: str) -> ModelVersion | None:
        """A version of which the form is here, in use from now on; None when it is not.

        What was damaged is deleted. Raises VicinalError when it cannot be read or deleted.
        """
        data = self.read(form.digest)
        if data is None:
            return None
        try:
            loaded = decode_form(data, form, version=version)
        except InputError:
            self._delete(form.digest)
            return None
        self._use(form.digest)
        return loaded

    def read(self, digest: str) -> bytes | None:
        """A form's bytes, verified; None when it is not here, or was damaged and is deleted.

        Raises VicinalError when the file cannot be read or deleted.
        """
        path = self.path(digest)
        try:
            if not path.exists():
                return None
            data = read_file(path, most=MAX_BYTES)
            if version_digest(data) == digest:
                return data
        except InputError:
            pass  # larger than a version can be
        except OSError as error:
            raise self._failure("read", error) from error
        self._delete(digest)
        return None

    def save(self, digest: str, data: bytes) -> None:
        """Keep bytes that have been verified, in use from now on.

        Raises InputError for more bytes than the store may hold, VicinalError; nothing is left
        then.
        """
        path = self.path(digest)
        if self._max_bytes is not None and len(data) > self._max_bytes:
            raise InputError(
                f"device store {self.folder}: a model version of {len(data)} bytes is more than "
                f"it may hold ({self._max_bytes}): give it more --store-bytes, or take a smaller "
                "--encoding"
            )
        try:
            clear_parts(self.folder)
            self._make_room(len(data), path)
            write_file(path, data)
        except OSError as error:
            raise self._failure("write", error) from error
        self._use(digest)

    def release(self) -> None:
        """Nothing of this store is in use by this process any more."""
        for descriptor in self._locks.values():
            os.close(descriptor)
        self._locks.clear()

    def _use(self, digest: str) -> None:
        """Mark a form as used now, and lock it until release()."""
        path = self.path(digest)
        # Another process may have deleted it meanwhile: what was read is in memory.
        with suppress(FileNotFoundError):
            descriptor = open_file(path)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            os.utime(path)
            if digest in self._locks:
                os.close(self._locks[digest])
            self._locks[digest] = descriptor

    def _make_room(self, size: int, place: Path) -> None:
        """Delete the least recently used files until `size` bytes more fit. Raises OSError."""
        if self._max_bytes is None:
            return
        files = [(path, stat) for path, stat in self._files() if path != place]
        total = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if total + size <= self._max_bytes:
                return
            if _delete_unused(path):
                total -= stat.st_size

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                if is_digest(path.name.removesuffix(_SUFFIX)):
                    found.append((path, path.stat()))
        return found

    def _delete(self, digest: str) -> None:
        try:
            self.path(digest).unlink(missing_ok=True)
        except OSError as error:
            raise self._failure("delete", error) from error

    def _failure(self, what: str, error: OSError) -> VicinalError:
        return VicinalError(
            f"device store {self.folder}: cannot {what} a model version ({error.strerror}); "
            "free some space or choose another --store"
        )


def _delete_unused(path: Path) -> bool:
    """Whether the file is gone: nobody had it locked. Raises OSError."""
    try:
        descriptor = open_file(path)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
