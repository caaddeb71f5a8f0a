"""Where servers share the bytes of versions: a folder, or whatever fsspec has a driver for.

    PLACE/ab/abcd…      bytes under their SHA-256

What is read is compared with its name, so that nobody who can write there makes a server serve
something else. User parameters and ratings are among it: the place is for the servers alone.
"""

import hashlib
from pathlib import Path
from typing import Any, Final, final

from common.errors import InputError, VicinalError
from common.files import read_file, write_file
from common.text import one_line
from common.versions.version import is_digest, version_digest
from server.sql.address import hidden_secrets, library, said

_FILE: Final = "file://"


class BlobsAwayError(VicinalError):
    """The place cannot be reached now, or does not have what is asked for."""


@final
class BlobStore:
    """A place by its address: a path, file:///…, s3://…, gs://….

    Raises InputError for an address that cannot be used.
    """

    def __init__(self, address: str) -> None:
        self.shown = one_line(hidden_secrets(address) if "://" in address else address)
        if self.shown != one_line(address):
            raise InputError(
                f"--versions {self.shown}: a password here would stand in process lists: leave it "
                "to the driver's own files and variables"
            )
        self._folder: Path | None = None
        if address.startswith(_FILE) or "://" not in address:
            self._folder = Path(address.removeprefix(_FILE))
            if not self._folder.is_absolute():
                raise InputError(f"--versions {self.shown}: give a whole path, or file:///PATH")
            return
        fsspec = library("fsspec", self.shown)
        try:
            self._system, self._root = fsspec.core.url_to_fs(address)
        except (ValueError, ImportError, OSError) as error:
            raise InputError(f"--versions {self.shown}: {said(error)}") from None

    def put(self, data: bytes) -> str:
        """Keep bytes; their digest. Raises BlobsAwayError."""
        digest = version_digest(data)
        try:
            if not self._has(digest, len(data)):
                self._write(digest, data)
        except Exception as error:
            raise self._away(error) from error
        return digest

    def get(self, digest: str, size: int) -> bytes:
        """The bytes of a digest, of which there are so many. Raises BlobsAwayError."""
        if not is_digest(digest):
            raise BlobsAwayError(f"--versions {self.shown}: {digest[:80]!r} is no digest")
        try:
            data = self._read(digest, size)
        except Exception as error:
            raise self._away(error) from error
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise BlobsAwayError(
                f"--versions {self.shown}: what is under {digest[:12]}… is something else: "
                "delete it, and train again"
            )
        return data

    def delete(self, digest: str) -> None:
        """Raises BlobsAwayError; nothing where it is not there."""
        try:
            if self._folder is not None:
                self._path(digest).unlink(missing_ok=True)
            elif self._system.exists(self._name(digest)):
                self._system.rm_file(self._name(digest))
        except Exception as error:
            raise self._away(error) from error

    def _has(self, digest: str, size: int) -> bool:
        if self._folder is not None:
            path = self._path(digest)
            return path.is_file() and path.stat().st_size == size
        name = self._name(digest)
        return bool(self._system.exists(name) and self._system.info(name)["size"] == size)

    def _write(self, digest: str, data: bytes) -> None:
        if self._folder is not None:
            write_file(self._path(digest), data)
            return
        name = self._name(digest)
        self._system.makedirs(name.rpartition("/")[0], exist_ok=True)
        # What is broken off here is found out by whoever reads it, and written again.
        self._system.pipe_file(name, data)

    def _read(self, digest: str, size: int) -> bytes:
        if self._folder is not None:
            return read_file(self._path(digest), most=size)
        name = self._name(digest)
        if self._system.info(name)["size"] != size:
            raise OSError("has another size")
        with self._system.open(name, "rb") as opened:
            data: bytes = opened.read(size + 1)
        return data

    def _path(self, digest: str) -> Path:
        assert self._folder is not None
        return self._folder / digest[:2] / digest

    def _name(self, digest: str) -> str:
        return f"{self._root.rstrip('/')}/{digest[:2]}/{digest}"

    def _away(self, error: Any) -> BlobsAwayError:
        if isinstance(error, FileNotFoundError):
            return BlobsAwayError(f"--versions {self.shown}: it is not there")
        return BlobsAwayError(f"--versions {self.shown}: {said(error)}")
