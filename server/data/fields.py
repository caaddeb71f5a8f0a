"""Fields of a text whose rows are known to be whole, read by blocks into few bytes a row.

Ids and ratings become codes of their texts, times whole numbers where all of them are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from common.errors import InputError
from server.data.separators import PADDING, Rows
from server.data.texts import coded

# Bytes of text that are held as fields at once.
BLOCK: Final = 32 << 20
_ENCLOSED: Final = r'(?s)^"([^"]|"")*"$'


@dataclass(frozen=True)
class Body:
    """The lines of a table: what follows `start` in `data`; `name` is for messages."""

    data: bytes
    start: int
    name: str
    separator: str


def fields_of(
    body: Body,
    rows: Rows,
    positions: Mapping[str, int],
    width: int,
    *,
    first: int,
    quoted: bool,
    dated: bool,
) -> pl.DataFrame:
    """Columns `line` and those of the roles.

    first   the number of the first line
    quoted  whether quotes hold fields together
    dated   whether times are dates, whatever they look like

    Raises InputError where quotes and line ends do not fit, and what polars raises.
    """
    padded = any(body.data.find(each.encode(), body.start) >= 0 for each in PADDING)
    enclosed = not quoted and body.data.find(b'"', body.start) >= 0
    numbered = "timestamp" in positions and not dated
    while True:
        parts: list[pl.DataFrame] = []
        at = first
        for block in _blocks(body, whole=rows.lines is not None):
            part = _read(block, body.separator, positions, width, quoted=quoted)
            part = part.with_row_index("line", offset=at)
            at += part.height
            if padded:
                part = part.with_columns(pl.col(pl.String).str.strip_chars(PADDING))
            if enclosed:
                part = part.with_columns(_opened(name) for name in positions)
            if rows.lines is not None:
                part = _with_lines(part, rows, first, body.name)
            narrow = _narrow(_without_blank(part, width), numbered=numbered)
            if narrow is None:
                break
            parts.append(narrow)
        else:
            return pl.concat(parts)
        # Not all times are whole numbers: their text decides what they are.
        numbered = False


def _blocks(body: Body, *, whole: bool) -> Iterator[bytes]:
    """Pieces of whole lines; `whole` is for rows of several lines, which are not cut."""
    data, start = body.data, body.start
    while start < len(data):
        end = len(data) if whole else _end(data, start + BLOCK)
        yield data[start:end] if start or end < len(data) else data
        start = end


def _end(data: bytes, at: int) -> int:
    """Where a line begins after `at`, with no blank line beside it, which a reader may skip."""
    while (found := data.find(b"\n", at) + 1) and found < len(data):
        following = data.find(b"\n", found)
        before = data[data.rfind(b"\n", 0, found - 1) + 1 : found]
        after = data[found : following if following >= 0 else len(data)]
        if before.strip() and after.strip():
            return found
        at = found
    return len(data)


def _read(
    block: bytes, separator: str, positions: Mapping[str, int], width: int, *, quoted: bool
) -> pl.DataFrame:
    """The roles' fields as text."""
    frame = pl.read_csv(
        block,
        has_header=False,
        separator=separator,
        quote_char='"' if quoted else None,
        schema={f"column_{at + 1}": pl.String for at in range(width)},
        columns=sorted(positions.values()),
        empty_string_is_null=False,
    )
    return frame.select(
        pl.col(f"column_{at + 1}").fill_null("").alias(role) for role, at in positions.items()
    )


def _opened(name: str) -> pl.Expr:
    """Without quotes around the whole of a field; one at an end alone is the field's own."""
    field = pl.col(name)
    inner = field.str.slice(1, field.str.len_chars() - 2).str.replace_all('""', '"', literal=True)
    return pl.when(field.str.contains(_ENCLOSED)).then(inner).otherwise(field).alias(name)


def _with_lines(part: pl.DataFrame, rows: Rows, first: int, name: str) -> pl.DataFrame:
    assert rows.lines is not None
    lines = pl.Series("line", rows.lines[: part.height] + first, dtype=pl.UInt32)
    if len(lines) != part.height:
        raise InputError(f"{name}: quotes and line ends do not fit; give --separator")
    return part.with_columns(lines)


def _without_blank(part: pl.DataFrame, width: int) -> pl.DataFrame:
    """Spreadsheets leave lines of nothing but separators."""
    if width == 1 or not (part["user"] == "").any():
        return part
    return part.filter(~pl.all_horizontal(pl.exclude("line") == ""))


def _narrow(part: pl.DataFrame, *, numbered: bool) -> pl.DataFrame | None:
    """The same in few bytes a row; None where times should be whole numbers, and are not."""
    columns = []
    for column in part.get_columns():
        if column.name in ("user", "item", "rating"):
            columns.append(coded(column))
        elif column.name == "timestamp" and numbered:
            times = column.cast(pl.Int64, strict=False)
            if times.null_count():
                return None
            columns.append(times)
        else:
            columns.append(column)
    return pl.DataFrame(columns)
