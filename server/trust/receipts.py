"""Receipts of answers: what a device shows to have an answer counted, once.

    user u32 | seconds since 1970 u32 | nonce 8 bytes | HMAC-SHA256, its first 16 bytes

The code is over model version, preset, user, time and nonce, with a key that only the server has:
nobody makes a receipt for an answer that was not given, or moves one to another user, version or
preset. 2¹²⁸ guesses are far more than a server answers.
"""

import hmac
import secrets
import struct
import time
from collections.abc import Callable, Iterable
from typing import Final, final

from server.reports.report import Receipt, ReportRefusedError

FILE_NAME: Final = "receipts.key"
KEY_BYTES: Final = 32
_SAYS: Final = struct.Struct("<IIq")
_CODE_BYTES: Final = 16
RECEIPT_BYTES: Final = _SAYS.size + _CODE_BYTES


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
