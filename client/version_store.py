"""Where a device keeps the model versions that it fetched.

    FOLDER/DIGEST.safetensors    a version's bytes, whose SHA-256 is DIGEST

Many processes may share a folder: files appear whole, and every load checks the name against
the bytes.
"""

from pathlib import Path
from typing import Final, final

from common.errors import InputError, VicinalError
from common.files import write_file
from common.model_version import MAX_BYTES, ModelVersion, decode_version
from common.wire.description import is_digest

_SUFFIX: Final = ".safetensors"


@final
class VersionStore:
    """A folder of model versions; it is made when the first one is saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where a version is. Raises InputError for what cannot be a version's name."""
        if not is_digest(digest):
            raise InputError(f"{digest[:80]!r} is not the name of a model version")
        return self.folder / f"{digest}{_SUFFIX}"

    def load(self, digest: str) -> ModelVersion | None:
        """A version that is here; None when it is not, or was damaged and is now deleted.

        Raises VicinalError when the file cannot be read or deleted.
        """
        path = self.path(digest)
        try:
            if not path.exists():
                return None
            if path.stat().st_size > MAX_BYTES:
                path.unlink(missing_ok=True)
                return None
            data = path.read_bytes()
            try:
                return decode_version(data, expected_digest=digest)
            except InputError:
                path.unlink(missing_ok=True)
                return None
        except OSError as error:
            raise self._failure("read", error) from error

    def save(self, digest: str, data: bytes) -> None:
        """Keep bytes that have been verified. Raises VicinalError; nothing is left then."""
        path = self.path(digest)
        try:
            write_file(path, data)
        except OSError as error:
            raise self._failure("write", error) from error

    def _failure(self, what: str, error: OSError) -> VicinalError:
        return VicinalError(
            f"device store {self.folder}: cannot {what} a model version ({error.strerror}); "
            "free some space or choose another --store"
        )
