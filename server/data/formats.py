"""Parsers of rating files: csv, tsv, dat, inter, parquet and Yelp's reviews, plain or gzipped.

A file is text in UTF-8 with one rating a line (or a parquet table). Quotes around a field are
dropped; a separator inside quotes is not supported, so that line numbers stay exact.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from common.errors import InputError
from common.names import unknown
from server.data import yelp
from server.data.parquet import read_table
from server.data.reading import MIB, read_file
from server.data.rows import COLUMN_NAMES, MAX_ROWS, RatingRows, checked, column_positions

MAX_BYTES = 1024 * MIB
PADDING = ' \t\r"'


def parse_csv(data: bytes, name: str) -> RatingRows:
    """Comma-separated, header optional."""
    return _delimited(data, name, ",")


def parse_tsv(data: bytes, name: str) -> RatingRows:
    """Tab-separated, header optional."""
    return _delimited(data, name, "\t")


def parse_dat(data: bytes, name: str) -> RatingRows:
    """Separated by two colons, as MovieLens 1M is."""
    return _delimited(data, name, "::")


def parse_inter(data: bytes, name: str) -> RatingRows:
    """Tab-separated under a typed header such as `user_id:token`, which must be there."""
    head = data[: data.find(b"\n")] if b"\n" in data else data
    if data and b":" not in head:
        raise InputError(
            f"{name} line 1: an .inter file starts with a header such as "
            "user_id:token, item_id:token, rating:float, separated by tabs"
        )
    return _delimited(data, name, "\t")


def parse_parquet(data: bytes, name: str) -> RatingRows:
    """A parquet table whose ids are text or whole numbers."""
    return checked(read_table(data, name), name, unit="row")


PARSERS: dict[str, Callable[[bytes, str], RatingRows]] = {
    ".csv": parse_csv,
    ".tsv": parse_tsv,
    ".data": parse_tsv,
    ".rating": parse_tsv,
    ".dat": parse_dat,
    ".inter": parse_inter,
    ".parquet": parse_parquet,
}


def read_ratings(path: Path, *, max_bytes: int | None = None) -> RatingRows:
    """The rows of a rating file; the end of its name says what it is.

    `max_bytes` bounds the decompressed size: 1 GiB unless given, 16 GiB for Yelp's reviews,
    which are read line by line. Raises InputError naming file, line and reason.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix in yelp.SUFFIXES:
        return yelp.read_reviews(path, max_bytes=max_bytes)
    if suffix not in PARSERS:
        raise unknown(
            "kind of file",
            suffix,
            (*PARSERS, *yelp.SUFFIXES),
            where=str(path),
            offer="its name must end in one of",
            more=", or in .gz after these",
        )
    limit = MAX_BYTES if max_bytes is None else max_bytes
    return PARSERS[suffix](read_file(path, limit=limit), str(path))


def _delimited(data: bytes, name: str, separator: str) -> RatingRows:
    if data.count(b"\n") > MAX_ROWS:
        raise InputError(f"{name}: more than {MAX_ROWS} lines; filter it first")
    try:
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name} line {line}: not UTF-8 text") from None
    if not text.strip():
        raise InputError(f"{name}: the file is empty")
    fields = [_plain(field) for field in text.split("\n", 1)[0].split(separator)]
    headed = not _holds_rating(fields)
    if headed:
        positions = column_positions(fields, f"{name} line 1")
    else:
        positions = {role: at for at, role in enumerate(COLUMN_NAMES) if at < len(fields)}
    lines = pl.DataFrame({"text": [text]}).select(pl.col("text").str.split("\n").explode())
    lines = lines.with_row_index("line", offset=1).slice(1 if headed else 0)
    counts = lines["text"].str.count_matches(separator, literal=True).to_numpy() + 1
    wrong = np.flatnonzero(counts != len(fields))
    if len(wrong):
        raise InputError(
            f"{name} line {lines['line'][int(wrong[0])]}: wrong number of fields: "
            f"{counts[wrong[0]]}, where line 1 has {len(fields)}"
        )
    parts = pl.col("text").str.split_exact(separator, len(fields) - 1)
    table = lines.select(
        "line",
        *(
            parts.struct.field(f"field_{at}").str.strip_chars(PADDING).alias(role)
            for role, at in positions.items()
        ),
    )
    return checked(table, name)


def _holds_rating(fields: list[str]) -> bool:
    """Whether a first line can be a rating, not a header: 3 or 4 fields, the third a number."""
    try:
        float(fields[2])
    except (IndexError, ValueError):
        return False
    return len(fields) <= len(COLUMN_NAMES)


def _plain(field: str) -> str:
    return field.strip(PADDING)
