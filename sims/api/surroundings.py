"""Progress and stores as a program asks for them: bars where it wants some, a folder or none."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from sims.progress import Report, quiet, shown


@contextmanager
def reporting(progress: bool) -> Iterator[Report]:
    """Bars on stderr, or nothing."""
    with shown() if progress else nullcontext(quiet) as report:
        yield report


@contextmanager
def store_folder(store: str | Path | None) -> Iterator[Path]:
    """Where trained models are kept; without a folder they are forgotten afterwards."""
    if store is not None:
        yield Path(store)
        return
    with TemporaryDirectory(prefix="vicinal-") as folder:
        yield Path(folder)
