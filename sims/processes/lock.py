"""A folder that one process works in at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import InputError
from common.files import open_lock


@contextmanager
def locked(folder: Path, instead: str = "") -> Iterator[None]:
    """Raises InputError when another process works in the same folder.

    instead  what could be done beside waiting, for the error's text
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_lock(folder / "lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process works in {folder}: wait for it{instead}") from None
        yield
