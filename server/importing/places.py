"""Where a table is: a file, and which of the tables in it."""

from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """`PATH`, or `PATH:MEMBER` for one array or column of a file that holds several."""

    path: Path
    member: str | None = None


def place(text: str) -> Place:
    """A path that exists is taken as it is, whatever colons it has.

    >>> place("als.npz:user_factors")
    Place(path=PosixPath('als.npz'), member='user_factors')
    """
    before, colon, after = text.rpartition(":")
    if not colon or not before or "/" in after or Path(text).exists():
        return Place(Path(text))
    return Place(Path(before), after)
