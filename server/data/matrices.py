"""Text in which a line holds all that a user rated: a matrix of users by items, or a list of items.

Shapes: U users, I items.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import polars as pl
from polars.exceptions import PanicException, PolarsError

from common.errors import InputError
from server.data.columns import role_of
from server.data.encodings import as_utf8
from server.data.limits import most_rows
from server.data.reading_options import ReadingOptions
from server.data.rows import RatingRows, checked
from server.data.separators import SAMPLE_BYTES, cut, opened, sample_lines, separator_of
from server.data.spellings import is_nothing

# A wider matrix is no table of ratings.
MAX_WIDTH: Final = 100_000
# More different numbers in a line are no ratings.
MANY_RATINGS: Final = 11


def parse_wide(data: bytes, name: str, options: ReadingOptions) -> RatingRows:
    """A row a user and a column an item, perhaps with their ids at the left and above.

    Nothing stands where there is no rating, or a word for it. Raises InputError naming file, line
    and reason.
    """
    data, notes = as_utf8(data, name, options.encoding)
    lines = sample_lines(data[:SAMPLE_BYTES].decode(errors="replace"))
    separator = options.separator or separator_of(lines[1:] or lines, None, least=2)
    if not lines or separator is None or len(separator) > 1:
        raise InputError(f"{name}: not a matrix of ratings: give --separator")
    first = _header(data, separator)
    try:
        frame = pl.read_csv(
            data,
            has_header=False,
            separator=separator,
            skip_rows=1 if (named := _is_named(first, options)) else 0,
            infer_schema=False,
            empty_string_is_null=False,
        ).with_row_index("line", offset=1 + named)
    except (PolarsError, PanicException, ValueError, OSError):
        raise InputError(f"{name}: rows have different numbers of fields") from None
    del data
    width = frame.width - 1
    if width > MAX_WIDTH or frame.height * width > most_rows():
        raise InputError(f"{name}: {frame.height} × {width} fields: more than are read")
    users, columns = _users(frame, named=named), frame.columns[1:]
    if users is None:
        notes.append("users are numbered by row from 0")
        users = pl.Series(range(frame.height)).cast(pl.String)
    else:
        columns = columns[1:]
    items = list(first) if named else [str(at) for at in range(len(columns))]
    if not named:
        notes.append("items are numbered by column from 0")
    elif len(items) == len(columns) + 1:
        items = items[1:]
    if len(items) != len(columns):
        raise InputError(
            f"{name} line 1: names {len(items)} items, where lines have {len(columns)} ratings"
        )
    parts = [
        part
        for column, item in zip(columns, items, strict=True)
        if (part := _rated(frame, users, column, item)).height
    ]
    if not parts:
        raise InputError(f"{name}: holds no ratings")
    return checked(pl.concat(parts).sort("line", maintain_order=True), name, options=options,
                   notes=tuple(notes))  # fmt: skip


def _header(data: bytes, separator: str) -> list[str]:
    end = data.find(b"\n")
    return [
        opened(each) for each in cut(data[: end if end >= 0 else len(data)].decode(), separator)
    ]


def _is_named(first: Sequence[str], options: ReadingOptions) -> bool:
    """Whether the first line has the items' ids: where it is not all ratings."""
    if options.header is not None:
        return options.header == "yes"
    rest = first[1:]
    if not all(is_nothing(each) or _is_number(each) for each in rest):
        return True
    # Ids that are numbers are all there, and different; ratings are few and come again.
    different = all(rest) and len(set(rest)) == len(rest)
    return different and (first[0] == "" or role_of(first[0]) == "user" or len(rest) > MANY_RATINGS)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _are_numbers(column: pl.Series) -> bool:
    some = column.filter(~column.is_in([each for each in column.unique() if is_nothing(each)]))
    return bool(some.cast(pl.Float64, strict=False).is_not_null().all())


def _users(frame: pl.DataFrame, *, named: bool) -> pl.Series | None:
    """The first column where it has ids: other than numbers, or under a header and unique."""
    column = frame.to_series(1).str.strip_chars()
    unique = named and column.n_unique() == frame.height
    return None if not unique and _are_numbers(column) else column


def _rated(frame: pl.DataFrame, users: pl.Series, column: str, item: str) -> pl.DataFrame:
    """The rows of one item."""
    texts = frame[column].str.strip_chars()
    none = [each for each in texts.unique() if is_nothing(each)]
    kept = ~texts.is_in(none)
    return pl.DataFrame(
        {
            "line": frame["line"].filter(kept),
            "user": users.filter(kept),
            "item": pl.Series([item]).new_from_index(0, int(kept.sum())),
            "rating": texts.filter(kept),
        }
    )


def parse_lists(data: bytes, name: str, options: ReadingOptions) -> RatingRows:
    """Lines of a user and the items that the user met, with blanks between."""
    if not options.implicit:
        raise InputError(f"{name}: lists of items have no ratings: leave out --scale")
    data, notes = as_utf8(data, name, options.encoding)
    users: list[str] = []
    items: list[str] = []
    counts: list[int] = []
    places: list[int] = []
    empty = total = 0
    for place, fields in _fields(data):
        if len(fields) == 1:
            empty += 1
            continue
        users.append(fields[0])
        items.extend(fields[1:])
        counts.append(len(fields) - 1)
        places.append(place)
        total += counts[-1]
        if total > (most := most_rows()):
            raise InputError(f"{name}: more than {most} items: more than there is memory for")
    if not items:
        raise InputError(f"{name}: holds no lines of a user and items")
    if empty:
        notes.append(f"{empty} users without items are left out")
    table = pl.DataFrame(
        {
            "line": np.repeat(places, counts),
            "user": pl.Series(users).gather(np.repeat(np.arange(len(users)), counts)),
            "item": items,
        }
    )
    return checked(table, name, options=options, notes=tuple(notes))


def _fields(data: bytes) -> Iterator[tuple[int, list[str]]]:
    for place, line in enumerate(io.BytesIO(data), start=1):
        if fields := line.decode().split():
            yield place, fields
