"""The last package of each of a device's users, for when the server cannot be reached.

    FOLDER/USER-PRESET-SERVER.package    header, description of the server, package

SERVER is a digest of its address. The header holds a SHA-256 over whose package it is, which
server's, when it came, and all that follows: a file that was damaged, cut off or renamed is
deleted and never read further. What it holds is checked where it is used, as if it came from the
server; it opens only for the user's own key and ratings.
Many processes may share a folder.
"""

import hashlib
import re
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, final

from google.protobuf.message import DecodeError

from common.errors import InputError
from common.files import clear_parts, read_file, write_file
from common.wire import offload_pb2 as wire
from common.wire.description import Description, description_from_wire, description_to_wire

DEFAULT_CAP_BYTES: Final = 64 << 20
# After 30 days a neighborhood says little of whom the user resembles.
MAX_AGE_SECONDS: Final = 30 * 86_400.0

_SUFFIX: Final = ".package"
_MARK: Final = b"vicinal package 1"
# SHA-256; seconds since 1970 when it came; bytes of the description.
_HEADER: Final = struct.Struct("<32sdI")
_PRESET: Final = re.compile(r"[A-Za-z0-9_]{1,40}")
_NAME: Final = re.compile(rf"\d+-{_PRESET.pattern}-[0-9a-f]{{16}}{re.escape(_SUFFIX)}")


class KeptPackage(NamedTuple):
    """A user's last package, and the server's description when it came.

    age      seconds since then
    message  its receipt is empty once a stale answer of it was reported
    """

    description: Description
    message: wire.OffloadPackage
    age: float


@final
class PackageStore:
    """A folder of packages; it is made when the first one is kept.

    server     HOST:PORT whose packages are kept and given
    cap_bytes  of all files together; the oldest leave first
    clock      seconds since 1970
    """

    def __init__(
        self,
        folder: Path,
        server: str,
        *,
        cap_bytes: int = DEFAULT_CAP_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self._server = server
        self._server_part = hashlib.sha256(server.encode()).hexdigest()[:16]
        self._cap = cap_bytes
        self._clock = clock
        self._unseen = cap_bytes

    def path(self, user: int, preset: str) -> Path:
        """Where a user's package is. Raises InputError for a preset that no file is named after."""
        if not _PRESET.fullmatch(preset):
            raise InputError(f"preset {preset[:40]!r} cannot be the name of a file")
        return self.folder / f"{user}-{preset}-{self._server_part}{_SUFFIX}"

    def keep(
        self, user: int, preset: str, description: Description, package: wire.OffloadPackage
    ) -> None:
        """Keep a checked package in the place of the user's last one.

        A disk that is full or not to be written on is no reason to fail an answer: nothing is
        kept then.
        """
        self._write(user, preset, description, package, self._clock())

    def spend(self, user: int, preset: str) -> None:
        """Take the receipt out of the user's last package: one stale answer of it is reported."""
        with suppress(OSError, InputError):
            data = read_file(self.path(user, preset), most=self._cap)
            came, description, message = _read(data, self._whose(user, preset))
            message.receipt = b""
            self._write(user, preset, description, message, came)

    def _write(
        self,
        user: int,
        preset: str,
        description: Description,
        package: wire.OffloadPackage,
        now: float,
    ) -> None:
        description_data = description_to_wire(description).SerializeToString()
        body = description_data + package.SerializeToString()
        digest = _digest(self._whose(user, preset), now, len(description_data), body)
        data = _HEADER.pack(digest, now, len(description_data)) + body
        if len(data) > self._cap:
            return
        with suppress(OSError):
            # Not durable: the digest tells what a power failure left.
            write_file(self.path(user, preset), data, durable=False)
            self._make_room(len(data))

    def load(self, user: int, preset: str) -> KeptPackage | None:
        """A user's last package; None when there is none, or it was damaged and is now deleted.

        Nor is one given that is older than 30 days, or came from the future.
        """
        path = self.path(user, preset)
        try:
            data = read_file(path, most=self._cap)
            came, description, message = _read(data, self._whose(user, preset))
        except OSError:
            return None
        except InputError:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        age = self._clock() - came
        # A clock that was set back by a moment is none that is wrong.
        if not -60.0 <= age <= MAX_AGE_SECONDS:
            return None
        return KeptPackage(description, message, max(age, 0.0))

    def latest(self, preset: str) -> KeptPackage | None:
        """The package that came last, of any user; None when there is none that is good."""
        newest: list[tuple[int, int]] = []
        for path in self.folder.glob(f"*-{preset}-{self._server_part}{_SUFFIX}"):
            user = path.name.partition("-")[0]
            with suppress(OSError):
                if user.isdecimal():
                    newest.append((path.stat().st_mtime_ns, int(user)))
        for _, last in sorted(newest, reverse=True):
            kept = self.load(last, preset)
            if kept is not None:
                return kept
        return None

    def _whose(self, user: int, preset: str) -> bytes:
        return f"{user} {preset} {self._server}".encode()

    def _make_room(self, written: int) -> None:
        """Delete the oldest files above the cap.

        The folder is read at first, then after every sixteenth of the cap that was written.
        """
        self._unseen += written
        if self._unseen < self._cap // 16:
            return
        self._unseen = 0
        clear_parts(self.folder)
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            # Whatever else has this suffix is not ours to delete.
            if not _NAME.fullmatch(path.name):
                continue
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        # Room for what is written until the folder is read again.
        excess = sum(size for _, size, _ in found) - (self._cap - self._cap // 16)
        for _, size, path in sorted(found):
            if excess <= 0:
                return
            with suppress(OSError):
                path.unlink(missing_ok=True)
                excess -= size


def _read(data: bytes, whose: bytes) -> tuple[float, Description, wire.OffloadPackage]:
    """When a package came, the description, and the package. Raises InputError."""
    if len(data) < _HEADER.size:
        raise InputError("package: cut off")
    digest, came, length = _HEADER.unpack_from(data)
    body = data[_HEADER.size :]
    if digest != _digest(whose, came, length, body):
        raise InputError("package: damaged, or of another user")
    try:
        described = wire.Description.FromString(body[:length])
        message = wire.OffloadPackage.FromString(body[length:])
    except DecodeError as error:
        raise InputError("package: not a message") from error
    return came, description_from_wire(described), message


def _digest(whose: bytes, came: float, length: int, body: bytes) -> bytes:
    parts = (_MARK, whose, struct.pack("<dI", came, length), body)
    return hashlib.sha256(b"\0".join(parts)).digest()
