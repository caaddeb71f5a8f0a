"""Ratings in text, a line each, with separators: csv, tsv, dat, inter, and what looks like them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from common.errors import InputError
from server.data.columns import ROLES, SKIPPED, WORDS, Columns, by_names, by_order, role_of
from server.data.encodings import as_utf8
from server.data.fields import Body, fields_of
from server.data.limits import most_rows
from server.data.preamble import preamble
from server.data.reading_options import ReadingOptions
from server.data.rows import RatingRows, checked
from server.data.separators import (
    SAMPLE_BYTES,
    STAND_IN,
    cut,
    rows_of,
    sample_lines,
    separator_of,
    shown,
)
from server.data.times import DATES

# A first line of these is what pandas writes for a frame without names.
_COUNTED: Final = re.compile(r"[0-9]{1,3}", re.ASCII)
# A time is a larger number than any count of columns or rating; seconds since 1970 have 9 digits.
LEAST_TIME: Final = 1e6
SEVERAL: Final = 3
# A backslash before a quote that ends no field, as MySQL writes it.
_ESCAPED: Final = rb'\\"(?!%b|[\r\n"]|$)'


@dataclass(frozen=True)
class Head:
    """What the first lines of a text say.

    start      where the lines of ratings begin, in bytes
    first      the number of that line, counted from 1
    columns    which field is what
    width      how many fields a line has
    named      whether a line names the columns
    doubtful   line 1 is either names, 0,1,2, or a rating: the rest of the file decides
    """

    separator: str
    start: int
    first: int
    columns: Columns
    width: int
    named: bool
    notes: tuple[str, ...] = ()
    doubtful: bool = False


def parse_delimited(
    data: bytes, name: str, usual: str | None, options: ReadingOptions, *, typed: bool = False
) -> RatingRows:
    """The rows of a text.

    usual  what separates fields in files of that name; None where the name does not say it
    typed  whether there is a header as `user_id:token`, which must be there

    Raises InputError naming file, line and reason.
    """
    if data.count(b"\n") > (most := most_rows()):
        raise InputError(f"{name}: more than {most} lines, which need more memory than is free")
    data, notes = as_utf8(data, name, options.encoding)
    if b"\r" in data and b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    head = head_of(data, name, usual, options, typed=typed)
    table = _table(data, name, head, options)
    del data
    if head.doubtful:
        _refuse_doubtful(table, name, head)
    said = [*notes, *head.notes, *head.columns.notes]
    return checked(table, name, options=options, notes=tuple(said))


def head_of(
    data: bytes, name: str, usual: str | None, options: ReadingOptions, *, typed: bool = False
) -> Head:
    """What the first lines say. Raises InputError."""
    start, number, separator, notes = preamble(data, name, options)
    text = data[start : start + SAMPLE_BYTES].decode(errors="replace")
    lines = sample_lines(text)
    if not lines:
        raise InputError(f"{name}: the file is empty")
    line = text.split("\n", 1)[0]
    where = f"{name} line {number}"
    if typed and ":" not in line:
        raise InputError(
            f"{where}: an .inter file starts with a header such as "
            "user_id:token, item_id:token, rating:float, separated by tabs"
        )
    if separator is None:
        least = 2 if options.implicit or len(options.columns or "---") == 2 else 3
        separator = separator_of(lines, usual, least=least) or separator_of(lines, None, least=2)
        if separator is None:
            raise InputError(f"{name}: cannot tell what separates the fields: give --separator")
        if separator != usual:
            notes.append(f"fields are separated by {shown(separator)} (--separator)")
    fields = cut(line, separator)
    others = [cut(each, separator) for each in lines[1:]]
    named, doubtful = _is_header(fields, others, options)
    if not named:
        columns, more = _in_order(fields, others, where, options)
        return Head(
            separator, start, number, columns, len(fields), False, (*notes, *more), doubtful
        )
    if not any(map(role_of, fields)):
        notes.append(f"line {number} is taken for names of columns (--header)")
    wider = bool(others) and all(len(each) == len(fields) + 1 for each in others)
    if wider and not any(each[-1] for each in others):
        fields = [*fields, ""]
    elif wider:
        notes.append(
            f"line {number} names one column fewer than there are: the first has row names"
        )
        fields = ["", *fields]
    if _counted(fields) and options.columns is None:
        columns = by_order(len(fields), where, options)
    else:
        columns = by_names(fields, where, options)
    end = data.find(b"\n", start)
    start = len(data) if end < 0 else end + 1
    return Head(separator, start, number + 1, columns, len(fields), True, tuple(notes))


def _is_header(
    fields: Sequence[str], others: Sequence[Sequence[str]], options: ReadingOptions
) -> tuple[bool, bool]:
    """Whether a first line names columns; and whether only the whole file can tell."""
    if options.header is not None:
        return options.header == "yes", False
    if _counted(fields):
        return _is_counted_header(fields, others)
    said = {word.partition("=")[2].strip() for word in options.columns or ()}
    if any(name in fields and not _is_number(name) for name in said - {""}):
        return True, False
    numbers = [_is_number(field) for field in fields]
    if len([field for field in fields if role_of(field)]) > 1 or not any(numbers):
        if any(map(role_of, fields)):
            return True, False
        # Without a known name: names, unless the lines below hold no number either.
        rating = _rating_place(options, len(fields))
        below = [each[rating] for each in others if len(each) > rating]
        named = not options.implicit and bool(below) and all(map(_is_number, below))
        return named and len(fields) > rating, False
    return False, False


def _rating_place(options: ReadingOptions, width: int) -> int:
    """Where the rating stands if columns are in order."""
    words = options.columns or ROLES[:3]
    roles = [None if word in SKIPPED else WORDS.get(word.lower()) for word in words]
    return roles.index("rating") if "rating" in roles else min(2, width - 1)


def _counted(fields: Sequence[str]) -> bool:
    """0,1,2 and so on, which pandas writes over columns without names."""
    return len(fields) >= SEVERAL and list(fields) == [str(at) for at in range(len(fields))]


def _is_counted_header(fields: Sequence[str], others: Sequence[Sequence[str]]) -> tuple[bool, bool]:
    if len(fields) > SEVERAL:
        last = [_value(each[3]) for each in others if len(each) > 3 and _is_number(each[3])]
        if last and min(last) >= LEAST_TIME:
            return True, False
    texts = [each for row in others for each in row[:2]]
    if texts and not all(map(_is_number, texts)):
        return True, False
    return False, True


def _refuse_doubtful(table: pl.DataFrame, name: str, head: Head) -> None:
    """Raises InputError where user 0 and item 1 are met in no other line."""
    first = table.row(0, named=True)
    if all((table[role] == first[role]).sum() == 1 for role in ("user", "item")):
        raise InputError(
            f"{name} line {head.first}: is a rating, or the names that pandas writes for "
            "columns: give --header yes or --header no"
        )


def _in_order(
    fields: Sequence[str], others: Sequence[Sequence[str]], where: str, options: ReadingOptions
) -> tuple[Columns, list[str]]:
    """The columns of a table without names; a running number may come first, and empty ones."""
    rows = [row for row in (fields, *others) if len(row) == len(fields)]
    filled = [at for at in range(len(fields)) if any(row[at] for row in rows)]
    if options.columns is None and 1 < len(filled) < len(fields):
        columns = by_order(len(filled), where, options)
        places = {role: filled[at] for role, at in columns.positions.items()}
        return Columns(places), ["left out: columns that are empty"]
    if options.columns is not None or not _has_index(fields, others):
        return by_order(len(fields), where, options), []
    without = by_order(len(fields) - 1, where, options)
    moved = {role: at + 1 for role, at in without.positions.items()}
    return Columns(moved), ["left out: column 1, a running number (--columns)"]


def _has_index(fields: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether the first field counts the lines, and what follows reads as user, item, rating."""
    rows = [fields, *others]
    if len(rows) < SEVERAL or len(fields) < 4:
        return False
    first = rows[0][0]
    if first not in ("0", "1") or any(
        row[0] != str(at) for at, row in enumerate(rows, start=int(first))
    ):
        return False
    ratings = [row[3] for row in rows if len(row) > 3]
    if not all(map(_is_number, ratings)):
        return False
    return len(fields) > 4 or max(map(_value, ratings)) < LEAST_TIME


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?|nan|-?inf", text,
                        re.ASCII | re.IGNORECASE) is not None  # fmt: skip


def _value(text: str) -> float:
    return float(text.replace(",", "."))


def _table(data: bytes, name: str, head: Head, options: ReadingOptions) -> pl.DataFrame:
    """Columns `line` and those of the roles: text, as codes; times as whole numbers if they can."""
    separator, start = head.separator, head.start
    if not data[start : start + SAMPLE_BYTES].strip() and not data[start:].strip():
        raise InputError(f"{name}: holds no ratings")
    if separator == " ":
        data = re.sub(rb"(?m)^ +| +(?=\r?$)", b"", re.sub(rb"[ \t]+", b" ", data[start:]))
        start = 0
    elif len(separator) > 1 or not separator.isascii():
        if data.find(STAND_IN.encode(), start) >= 0:
            raise InputError(f"{name}: holds control characters; give another --separator")
        data, start = data[start:].replace(separator.encode(), STAND_IN.encode()), 0
        separator = STAND_IN
    return _in_rows(Body(data, start, name, separator), head, dated=options.time_unit in DATES)


def _in_rows(body: Body, head: Head, *, dated: bool) -> pl.DataFrame:
    """The text as rows, where quotes may hold fields together or be letters as any other.

    Raises InputError for a row of another width.
    """
    errors = []
    for text, quoted in _ways(body):
        rows = rows_of(
            memoryview(text.data)[text.start :], text.separator, head.width, quoted=quoted
        )
        if rows.fault is not None:
            line, count = rows.fault
            errors.append(
                f"{body.name} line {head.first + line}: wrong number of fields: {count}, where "
                f"line {head.first - 1 if head.named else head.first} has {head.width}"
            )
        elif rows.closed:
            try:
                return fields_of(
                    text,
                    rows,
                    head.columns.positions,
                    head.width,
                    first=head.first,
                    quoted=quoted,
                    dated=dated,
                )
            except (PolarsError, PanicException, ValueError, OSError):
                # PanicException is what a panic inside the reader becomes; it is no Exception.
                errors.append(f"{body.name}: quotes stand inside of fields, and not around them")
        else:
            errors.append(f"{body.name}: a quote is not closed")
    raise InputError(errors[0])


def _ways(body: Body) -> Iterator[tuple[Body, bool]]:
    """What may be meant by quotes: the text, and whether quotes in it hold fields together."""
    data, start, mark = body.data, body.start, body.separator.encode()
    if body.separator == STAND_IN or data.find(b'"', start) < 0:
        yield body, False
        return
    if body.separator == "\t":
        # In these a quote is an inch more often than a quote.
        yield body, False
    padded = re.compile(rb'(?m)(^|%b)[ \t]+"(?!"[^%b\r\n])' % (re.escape(mark), re.escape(mark)))
    lines = sample_lines(data[start : start + SAMPLE_BYTES].decode(errors="replace"))
    if mark not in b" \t" and any(padded.search(line.encode()) for line in lines):
        body = replace(body, data=padded.sub(rb'\1"', data[start:]), start=0)
        data, start = body.data, 0
    if re.compile(_ESCAPED % re.escape(mark)).search(data, start):
        yield replace(body, data=data[start:].replace(b'\\"', b'""'), start=0), True
    yield body, True
    if body.separator != "\t":
        yield body, False
