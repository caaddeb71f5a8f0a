"""Forms of text in which a line is not a rating: Netflix's and Jester's."""

import re
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common.errors import InputError
from server.data.encodings import as_utf8
from server.data.limits import most_rows
from server.data.reading_options import EMPTY, ReadingOptions
from server.data.rows import RatingRows, checked
from server.data.separators import STAND_IN, cut, sample_lines, separator_of

NETFLIX: Final = "netflix"
# A wider matrix is no table of ratings.
MAX_WIDTH: Final = 100_000
LEAST_WIDTH: Final = 5
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def parse_netflix(data: bytes, name: str, options: ReadingOptions) -> RatingRows:
    """Lines `movie:`, and under each the lines user,rating,date of its ratings."""
    if data.count(b"\n") > (most := most_rows()):
        raise InputError(f"{name}: more than {most} lines, which need more memory than is free")
    data, notes = as_utf8(data, name, options.encoding)
    if STAND_IN.encode() in data:
        raise InputError(f"{name}: holds control characters")
    lines = pl.read_csv(
        data,
        has_header=False,
        separator=STAND_IN,
        quote_char=None,
        schema={"column_1": pl.String},
        empty_string_is_null=False,
    ).with_row_index("line", offset=1)
    del data
    text = pl.col("column_1").str.strip_chars()
    is_movie = text.str.contains(r"^[^,]+:$")
    lines = lines.select(
        "line",
        text.alias("text"),
        pl.when(is_movie).then(text.str.strip_suffix(":")).forward_fill().alias("item"),
        is_movie.alias("movie"),
    ).filter(~pl.col("movie") & (pl.col("text") != ""))
    if not lines.height:
        raise InputError(f"{name}: holds no ratings")
    counts = lines["text"].str.count_matches(",", literal=True)
    wrong = (counts != 2) | lines["item"].is_null()
    if wrong.any():
        line = lines["line"][wrong.arg_max() or 0]
        raise InputError(
            f"{name} line {line}: not user,rating,date under a line `movie:`, as Netflix's files "
            "have them"
        )
    parts = pl.col("text").str.split_exact(",", 2)
    table = lines.select(
        "line",
        parts.struct.field("field_0").alias("user"),
        "item",
        parts.struct.field("field_1").alias("rating"),
        parts.struct.field("field_2").alias("timestamp"),
    )
    return checked(table, name, options=options, notes=tuple(notes))


def is_matrix(data: bytes) -> bool:
    """Whether lines are rows of a matrix: many numbers, the first of which counts the ratings."""
    lines = sample_lines(data[: 1 << 16].decode(errors="replace"))
    separator = separator_of(lines, None, least=LEAST_WIDTH) if lines else None
    return separator is not None and all(
        _NUMBER.fullmatch(each) for each in cut(lines[0], separator)
    )


def parse_matrix(data: bytes, name: str, options: ReadingOptions) -> RatingRows:
    """A row a user, whose first field counts the ratings; a column an item.

    What --drop-ratings names stands where there is no rating.
    """
    data, notes = as_utf8(data, name, options.encoding)
    lines = sample_lines(data[: 1 << 16].decode(errors="replace"))
    separator = options.separator or separator_of(lines, None, least=LEAST_WIDTH)
    if separator is None or len(separator) > 1 or not lines:
        raise InputError(f"{name}: not a matrix of ratings: give --separator")
    rows = [line.strip() for line in data.decode().split("\n")]
    del data
    missing = np.array([each for each in options.drop_ratings or () if each != EMPTY])
    users: list[NDArray[Any]] = []
    items: list[NDArray[Any]] = []
    values: list[NDArray[Any]] = []
    places: list[NDArray[Any]] = []
    width, total, most = None, 0, most_rows()
    for number, line in enumerate(rows, start=1):
        if not line:
            continue
        try:
            fields = np.array(line.split(separator), dtype=np.float64)
        except ValueError:
            raise InputError(f"{name} line {number}: holds something else than numbers") from None
        width = len(fields) if width is None else width
        if len(fields) != width or width > MAX_WIDTH:
            raise InputError(
                f"{name} line {number}: {len(fields)} fields, where the first row has {width}"
            )
        ratings = fields[1:]
        rated = np.flatnonzero(~np.isin(ratings, missing) & np.isfinite(ratings))
        if len(rated) != fields[0]:
            raise InputError(
                f"{name} line {number}: the first field, {fields[0]:g}, should count the "
                f"{len(rated)} ratings of the row: is something else than --drop-ratings missing?"
            )
        total += len(rated)
        if total > most:
            raise InputError(
                f"{name}: more than {most} ratings, which need more memory than is free"
            )
        users.append(np.full(len(rated), len(users)))
        items.append(rated + 1)
        values.append(ratings[rated])
        places.append(np.full(len(rated), number))
    if not total:
        raise InputError(f"{name}: holds no ratings")
    table = pl.DataFrame(
        {
            "line": np.concatenate(places),
            "user": pl.Series(np.concatenate(users)).cast(pl.String),
            "item": pl.Series(np.concatenate(items)).cast(pl.String),
            "rating": np.concatenate(values),
        }
    )
    notes.append("users are numbered by row from 0, items by column from 1")
    return checked(table, name, options=options, notes=tuple(notes))
