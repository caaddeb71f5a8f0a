"""What a server keeps in tables, whichever database they are in: the part of SQL that both speak.

Statements are constants with `?` for each value. What SQLite and PostgreSQL write alike is written
once, above this; what they do not is behind it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

# A text of a table may be so long: about as much as the sums of ten thousand watched items take.
MAX_TEXT = 4 << 20


class SqlError(Exception):
    """The database cannot do it now, as without space or a connection; it may soon."""


class LostError(SqlError):
    """The database is not there any more, or is another one: what is written would be gone."""


class Rows(Protocol):
    """What a statement found."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Transactions(Protocol):
    """Transactions, one after another, of one thread.

    Everything raises SqlError; a value that a database does not take is a ValueError.
    """

    def begin(self) -> None:
        """Nobody else is in such a transaction of the same database then."""

    def commit(self) -> None:
        """When it returns, what was written outlives a crash."""

    def roll_back(self) -> None:
        """Never raises: what cannot be rolled back now is at the next transaction."""

    def part(self) -> AbstractContextManager[None]:
        """A part of a transaction: what raises in it has changed nothing."""

    def execute(self, statement: str, values: Sequence[object] = ()) -> Rows: ...

    def close(self) -> None: ...


def bounded(column: str) -> str:
    """A column of text, for a SELECT: NULL where it is longer than any that was written."""
    return f"CASE WHEN length({column}) <= {MAX_TEXT} THEN {column} END"
