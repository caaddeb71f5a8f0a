"""How far a server's versions have come, so that a device takes none that is older.

    FOLDER/SERVER.publication    the largest number seen; SERVER is a digest of its address

Somebody between device and server, or a server whose disk was set back, could else serve an old
version again, and with it what was mended since. A number is the second of
publication, or a few more: one that is far in the future is none that a server gives, and is not
remembered. Whoever sent it once would else keep the device from the honest server for ever.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, final

from client.link.connection import NoAnswerError
from common.files import read_number, write_file

_SUFFIX: Final = ".publication"
# By which the clocks of device and server may differ.
AHEAD_SECONDS: Final = 86_400.0


class OlderVersionError(NoAnswerError):
    """The server describes a version that is older than one seen before."""


@final
class Publications:
    """A folder of numbers; it is made when the first one is kept.

    clock  seconds since 1970
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    def check(self, server: str, publication: int) -> None:
        """Note a number. Raises OlderVersionError for one that is smaller than one seen before."""
        path = self._folder / f"{hashlib.sha256(server.encode()).hexdigest()[:16]}{_SUFFIX}"
        latest = self._clock() + AHEAD_SECONDS
        seen = read_number(path)
        seen = seen if seen <= latest else 0
        if publication < seen:
            raise OlderVersionError(
                f"server {server}: it serves version {publication}, which is older than {seen}, "
                f"that this device has seen; if that is right, delete {path}"
            )
        if seen < publication <= latest:
            # A disk that is full is no reason to fail an answer.
            with suppress(OSError):
                write_file(path, f"{publication}\n".encode(), durable=False)
