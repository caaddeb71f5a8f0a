"""Receipts of answers: what a device shows to have an answer counted, once.

    user u32 | seconds since 1970 u32 | nonce 8 bytes | HMAC-SHA256, its first 16 bytes

The code is over model version, preset, user, time and nonce, with a key that only the server has:
nobody makes a receipt for an answer that was not given, or moves one to another user, version or
preset. 2¹²⁸ guesses are far more than a server answers.
"""

import hmac
import os
import secrets
import stat
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, final

from common.errors import InputError
from server.reports.report import Receipt, ReportRefusedError

FILE_NAME: Final = "receipts.key"
KEY_BYTES: Final = 32
_SAYS: Final = struct.Struct("<IIq")
_CODE_BYTES: Final = 16
# Not through a link, and without waiting at a pipe.
_CAREFULLY: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
RECEIPT_BYTES: Final = _SAYS.size + _CODE_BYTES
_ADVICE: Final = "delete it, and a new one is made: reports of answers so far are then not counted"


@final
class Receipts:
    """Issues and verifies; one key for as long as its receipts are to be worth something.

    key    32 secret bytes
    clock  seconds since 1970; the tally's, by which receipts expire
    """

    def __init__(self, key: bytes | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(KEY_BYTES) if key is None else key
        self._clock = clock

    def issue(self, version: str, preset: str, user: int) -> bytes:
        """A receipt for one answer that was just given."""
        nonce = int.from_bytes(secrets.token_bytes(8), "little", signed=True)
        says = _SAYS.pack(user, int(self._clock()), nonce)
        return says + self._code(version, preset, says)

    def verified(self, given: Iterable[bytes], version: str, preset: str) -> list[Receipt]:
        """What receipts for a version and a preset say. Raises ReportRefusedError."""
        return [self._verified(one, version, preset) for one in given]

    def shard(self, whose: str, shards: int) -> int:
        """Where reports go that are of the same token or user; nobody can choose it."""
        digest = hmac.digest(self._key, b"vicinal shard\0" + whose.encode(), "sha256")
        return int.from_bytes(digest[:8], "little") % shards

    def _verified(self, given: bytes, version: str, preset: str) -> Receipt:
        says, code = given[: _SAYS.size], given[_SAYS.size :]
        if len(given) != RECEIPT_BYTES or not hmac.compare_digest(
            code, self._code(version, preset, says)
        ):
            raise ReportRefusedError(
                "receipts", "a receipt in it is not one of this server, version and preset"
            )
        return Receipt(*_SAYS.unpack(says))

    def _code(self, version: str, preset: str, says: bytes) -> bytes:
        about = b"\0".join((b"vicinal receipt 1", version.encode(), preset.encode(), says))
        return hmac.digest(self._key, about, "sha256")[:_CODE_BYTES]


def receipt_key(path: Path) -> bytes:
    """The key in a file, which is made when it is not there, for its owner alone.

    Raises InputError for a link, for a file that others can read, and for one that holds no key.
    """
    try:
        if not os.path.lexists(path):
            _make(path)
        return _read(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be used ({error.strerror}); {_ADVICE}") from error


def _make(path: Path) -> None:
    """Whole or not at all, and never in the place of another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(secrets.token_bytes(KEY_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            # Another server was faster: its key is ours too.
            return
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | _CAREFULLY)
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(opened.fileno())
        key = opened.read(KEY_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
    if status.st_mode & 0o077:
        raise InputError(f"{path}: others can read it; `chmod 600 {path}`, or {_ADVICE}")
    if len(key) != KEY_BYTES:
        raise InputError(f"{path}: not the key of a server's receipts; {_ADVICE}")
    return key
