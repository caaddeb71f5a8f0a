"""Files of a run that its server app prepares itself: there while it runs, and nobody else's."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.files import make_folder, open_lock

# Ratings, keys and models; the result stays.
PRIVATE: Final = ("deployment", "devices", "models", "rounds", "store")
_LOCK: Final = "lock"


@contextmanager
def private_folder(folder: Path) -> Iterator[None]:
    """A folder that is this run's alone, without what is private in it afterwards.

    A run that was killed could not clear up: its neighbors do, who see that nobody holds its lock.
    Raises InputError and OSError.
    """
    make_folder(folder)
    with open_lock(folder / _LOCK) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep(folder.parent)
        try:
            yield
        finally:
            _clear(folder)
            (folder / _LOCK).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Clear up after runs below a folder that ended without doing so."""
    for lock_file in folder.glob(f"*/{_LOCK}"):
        with open_lock(lock_file) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # at work
            _clear(lock_file.parent)
            lock_file.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    for name in PRIVATE:
        shutil.rmtree(folder / name, ignore_errors=True)
