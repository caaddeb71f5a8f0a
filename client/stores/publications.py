"""How far a server's versions have come, so that a device takes none that is older.

    FOLDER/SERVER.publication    the largest number seen; SERVER is a digest of its address

Somebody between device and server, or a server whose disk was set back, could else serve an old
version again, and with it what was mended since.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final, final

from client.link.connection import NoAnswerError
from common.files import write_file

_SUFFIX: Final = ".publication"


@final
class Publications:
    """A folder of numbers; it is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, server: str, publication: int) -> None:
        """Note a number. Raises NoAnswerError for one that is smaller than one seen before."""
        path = self._folder / f"{hashlib.sha256(server.encode()).hexdigest()[:16]}{_SUFFIX}"
        try:
            seen = int(path.read_text()[:20])
        except (OSError, ValueError):
            seen = 0
        if publication < seen:
            raise NoAnswerError(
                f"server {server}: it serves version {publication}, which is older than {seen}, "
                f"that this device has seen; if that is right, delete {path}"
            )
        if publication > seen:
            # A disk that is full is no reason to fail an answer.
            with suppress(OSError):
                write_file(path, f"{publication}\n".encode(), durable=False)
