"""A server's store of model versions: one folder each, named by digest.

    STORE/lock                                 held by the process that uses the store
    STORE/serving/                             what a server serves while it runs
    STORE/versions/DIGEST/model.safetensors    what devices fetch; its SHA-256 is DIGEST
    STORE/versions/DIGEST/users.safetensors    user parameters, which never leave
    STORE/trained/TRAINING_DIGEST              the DIGEST that a training gave
    STORE/attacks/KEY.safetensors              fakes of an experiment's attack (sims.attacks.kept)

Every file is written whole under another name first, users before the version and the
version before the pointer, so that a crash leaves nothing that looks finished.
"""

import fcntl
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Protocol, Self, final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from common.errors import InputError
from common.files import (
    clear_parts,
    make_folder,
    open_lock,
    read_file,
    remove_folder,
    require_ours,
    write_file,
)
from common.tables import read_tables
from common.versions.version import (
    MAX_BYTES,
    Manifest,
    ModelVersion,
    decode_version,
    encode_version,
    is_digest,
    version_digest,
)

# What safetensors puts before the tensors.
_MAX_HEADER: Final = 1 << 20

SERVING: Final = "serving"
# Among the tables of users, beside parameters.
LEFT_OUT: Final = "left_out"

Tables = Mapping[str, NDArray[np.float32]]


def nobody() -> NDArray[np.int64]:
    """No user, [0]."""
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class TrainedModel:
    """Parameters after training; `user_parameters` have one row per user.

    left_out  users whose ratings training did not see, ascending: nobody's neighbors
    """

    manifest: Manifest
    shared_parameters: Tables
    user_parameters: Tables
    left_out: NDArray[np.int64] = field(default_factory=nobody)


def user_tables(
    parameters: Tables, left_out: NDArray[np.int64]
) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    """What is kept of users, by name; digests without anybody left out are those of parameters."""
    return {**parameters, **({LEFT_OUT: left_out} if len(left_out) else {})}


def split_user_tables(
    tables: Mapping[str, NDArray[Any]], users: int
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    """User parameters and the users who were left out, of what user_tables() has put together.

    Raises ValueError where those cannot be users, or would be all of them.
    """
    left_out = tables.get(LEFT_OUT, nobody())
    known = left_out.ndim == 1 and left_out.dtype == np.int64 and len(left_out) < users
    if not known or (len(left_out) and not 0 <= left_out.min() <= left_out.max() < users):
        raise ValueError("users who were left out are not users")
    return {name: table for name, table in tables.items() if name != LEFT_OUT}, left_out


def tables_digest(tables: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over named arrays."""
    hasher = hashlib.sha256()
    for name in sorted(tables):
        hasher.update(f"{name}{tables[name].shape}".encode())
        hasher.update(np.ascontiguousarray(tables[name]).tobytes())
    return hasher.hexdigest()


@dataclass(frozen=True)
class StoredModel:
    """A version and the user parameters beside it; `path` holds the version's bytes.

    left_out  as in TrainedModel, and who came later
    later     how many real users came after the training; they are the last of the real ones
    """

    version: ModelVersion
    user_parameters: dict[str, NDArray[np.float32]]
    path: Path
    left_out: NDArray[np.int64] = field(default_factory=nobody)
    later: int = 0


class Versions(Protocol):
    """Where trained models are found and kept: a ModelStore, or another machine's."""

    def find(self, training_digest: str) -> StoredModel | None:
        """The version that a training gave earlier, or None."""
        ...

    def save(self, trained: TrainedModel) -> StoredModel:
        """Keep a trained model."""
        ...


@final
class ModelStore:
    """A folder of model versions for one process at a time; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        """Raises InputError when another process uses the folder, OSError.

        What a process left that was killed in here is cleared away.
        """
        make_folder(self.folder)
        lock = open_lock(self.folder / "lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read(32).strip()
            lock.close()
            # Another one that is just starting has not said who it is.
            process = f"process {owner}" if owner else "another process"
            raise InputError(
                f"store {self.folder} is in use by {process}: stop it or choose another --store"
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        self._clear()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __reduce__(self) -> tuple[type["ModelStore"], tuple[Path]]:
        """Without the lock: processes that work for the one who has it may find and save."""
        return ModelStore, (self.folder,)

    def serving(self) -> Path:
        """Where a server puts what it serves, which goes when the server ends.

        Raises InputError for a folder that is there and that this program did not make.
        """
        folder = self.folder / SERVING
        require_ours(folder, "another --store")
        return folder

    def _clear(self) -> None:
        """With the lock, whatever else is here is of a process that was killed."""
        remove_folder(self.folder / SERVING)
        for folder in (self.folder, self.folder / "trained", *self.folder.glob("versions/*")):
            clear_parts(folder, age=0)
        # Where attacks are kept without the lock (sims.attacks.kept).
        clear_parts(self.folder / "attacks")

    def save(self, trained: TrainedModel) -> StoredModel:
        """Store a trained model. Raises OSError, as for a full disk; `find` finds nothing then."""
        data = encode_version(trained.manifest, trained.shared_parameters)
        digest = version_digest(data)
        folder = self.folder / "versions" / digest
        tables = {
            name: np.ascontiguousarray(table)
            for name, table in user_tables(trained.user_parameters, trained.left_out).items()
        }
        write_file(folder / "users.safetensors", save(tables))
        write_file(folder / "model.safetensors", data)
        pointer = self.folder / "trained" / trained.manifest.training_digest
        write_file(pointer, digest.encode())
        return self.load(digest)

    def find(self, training_digest: str) -> StoredModel | None:
        """The version that a training gave earlier, or None.

        Raises InputError when it was stored and is damaged now.
        """
        pointer = self.folder / "trained" / training_digest
        if not os.path.lexists(pointer):
            return None
        try:
            return self.load(_read(pointer, most=1 << 10).decode(errors="replace"))
        except (InputError, OSError) as error:
            raise InputError(f"{error}; delete {pointer} to train again") from error

    def load(self, digest: str) -> StoredModel:
        """Raises InputError when the version is not here, or is not what its name says."""
        if not is_digest(digest):
            raise InputError(f"{digest[:80]!r} is not the name of a model version")
        folder = self.folder / "versions" / digest
        try:
            version = decode_version(_read(folder / "model.safetensors"), expected_digest=digest)
            data = _read(folder / "users.safetensors")
        except OSError as error:
            raise InputError(
                f"store {self.folder}: version {digest[:12]} is missing ({error.strerror})"
            ) from error
        tables = read_tables(data, f"store {self.folder}: user parameters of {digest[:12]}")
        manifest = version.manifest
        refused = InputError(
            f"store {self.folder}: user parameters of {digest[:12]} do not match it"
        )
        try:
            users, left_out = split_user_tables(tables, manifest.users)
        except ValueError as error:
            raise refused from error
        shapes = {name: table.shape for name, table in users.items() if table.dtype == np.float32}
        expected = manifest.user_shapes(manifest.users)
        if shapes != expected or tables_digest(tables) != manifest.user_digest:
            raise refused
        return StoredModel(version, users, folder / "model.safetensors", left_out)


def _read(path: Path, *, most: int = MAX_BYTES + _MAX_HEADER) -> bytes:
    return read_file(path, most=most)
