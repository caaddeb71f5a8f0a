"""Profiles as others publish them, read as they are: tables, lists and CSV of other forms.

    .npy   a table fakes × items of ratings, of ratings ÷ maximum, or of 0 and 1; or rows of
           user, item and perhaps rating
    JSON   a list of profiles: each a list of items, of [item, rating] pairs, an object of ratings
           by item, or a row of the whole table; or a list of [user, item, rating], or of objects
           with such keys; or an object of profiles by user. An object may have `targets`, `goal`
           and `audience` beside its `profiles`
    text   rows of user, item and perhaps rating and time, under any usual column names, or the
           whole table; separated by commas, tabs, semicolons, :: or spaces

What is not said is taken in the one way that fits (sims.attacks.entries); `Read.how` says which.

Shapes: I items.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingScale
from sims.attacks.entries import (
    MAX_NAME,
    NUMBER,
    TRIPLE,
    WHAT_IS_READ,
    Entries,
    Read,
    column_places,
    misplaced,
    refuse_more,
)

_SEPARATORS: Final = ("::", "\t", ";", ",")


def read_text(
    lines: list[str], start: int, item_count: int, scale: RatingScale, *, nameless: bool
) -> Read:
    """Rows of numbers from line `start` on, counted from 0. Raises InputError, with the line.

    nameless  whether rows of numbers may stand without column names
    """
    rows = [(place, line) for place, line in enumerate(lines[start:], start + 1) if line.strip()]
    if not rows:
        raise misplaced("line", start + 1, WHAT_IS_READ)
    separator = next((each for each in _SEPARATORS if each in rows[0][1]), None)
    place, first = rows[0][0], _cells(rows[0][1], separator, item_count + 1)
    named = not all(NUMBER.fullmatch(cell) for cell in first)
    numbered = _is_table(first, item_count)
    if numbered is not None:
        entries = Entries("a table in text")
        for place, row in _all_cells(rows[numbered:], separator, len(first)):
            entries.add_row(place, row[numbered:], place)
        ratings, how = entries.settled(item_count, scale)
        return Read(ratings, {}, how)
    if not named and not nameless:
        raise misplaced("line", place, WHAT_IS_READ)
    positions = column_places(first, place) if named else _nameless(len(first), place)
    entries = Entries(f"columns {','.join(first)}"[:200] if named else "rows without names")
    if "rating" not in positions:
        entries.values = None
    for place, row in _all_cells(rows[named:], separator, len(first)):
        user = row[positions["user"]]
        if not user or len(user) > MAX_NAME:
            raise misplaced("line", place, f"no user: {user[:40]!r}")
        value = row[positions["rating"]] if "rating" in positions else None
        entries.add(user, row[positions["item"]], value, place)
    ratings, how = entries.settled(item_count, scale)
    return Read(ratings, {}, how)


def read_array(table: NDArray[Any], item_count: int, scale: RatingScale) -> Read:
    """A table of fakes × items, or rows of user, item and perhaps rating.

    Raises InputError for one of another shape, or of something else than numbers.
    """
    columns = table.shape[1] if table.ndim == 2 else 0  # rows and columns
    if columns != item_count and columns not in (2, 3):
        raise InputError(
            f"expected a table of fakes × {item_count} items, or rows of user, item and rating"
        )
    if table.dtype.kind == "f" and table.dtype.itemsize > np.dtype(np.float64).itemsize:
        with np.errstate(over="ignore"):  # infinite then
            table = table.astype(np.float64)
    if table.dtype.kind not in "fiub" or not np.isfinite(table).all():
        raise InputError("holds values that are not numbers")
    refuse_more(int(np.count_nonzero(table)) if columns == item_count else len(table))
    if columns == item_count:
        rows, filled = np.nonzero(table)
        entries = Entries("a table", "row")
        entries.users, entries.items = list(rows.tolist()), list(filled.tolist())
        entries.values = table[rows, filled].astype(np.float64).tolist()
        entries.places = rows.tolist()
    else:
        numbers = table.astype(np.float64)
        entries = Entries("rows of user, item" + (", rating" if columns == TRIPLE else ""), "row")
        entries.users, entries.items = list(numbers[:, 0].tolist()), numbers[:, 1].tolist()
        entries.values = numbers[:, 2].tolist() if columns == TRIPLE else None
        entries.places = list(range(len(table)))
    ratings, how = entries.settled(item_count, scale, fractions=columns == item_count)
    return Read(ratings, {}, how)


def _is_table(first: list[str], item_count: int) -> int | None:
    """How many rows and columns of names a table with a column for each item has; None for others.

    That is none, or one of each: a row of the items' numbers, and a column of row names.
    """
    if item_count <= TRIPLE + 1:
        return None
    if len(first) == item_count and all(NUMBER.fullmatch(cell) for cell in first):
        return 0
    return 1 if first[1:] == [str(item) for item in range(item_count)] else None


def _nameless(columns: int, place: int) -> dict[str, int]:
    if not 2 <= columns <= 4:  # user, item, rating, time
        raise misplaced("line", place, WHAT_IS_READ)
    names = ("user", "item", "rating")[:columns]
    return {name: at for at, name in enumerate(names)}


def _cells(line: str, separator: str | None, most: int) -> list[str]:
    """Without spaces, and without the quotation marks that some programs put around everything.

    What stands behind the first `most` is one more, so that a line of nothing but separators is no
    list of as many words.
    """
    return [word.strip().strip('"') for word in line.split(separator, max(most, TRIPLE + 1))]


def _all_cells(
    rows: list[tuple[int, str]], separator: str | None, count: int
) -> Iterator[tuple[int, list[str]]]:
    """Place and cells of each row. Raises InputError, with the line, for one of another length."""
    for place, line in rows:
        row = _cells(line, separator, count)
        if len(row) != count:
            found = f"{len(row)}" if len(row) < count else f"more than {count}"
            raise misplaced("line", place, f"{found} columns, where there are {count}")
        yield place, row
