"""Titles of items from a file, as the catalogs of public data sets have them.

Columns of an id and a title are found by name, in MovieLens' files without a header by position.
Text in such files is a stranger's: whoever shows it goes through common.text.
"""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from common.errors import InputError
from common.ratings import RatingMatrix
from common.text import one_line
from server.data.columns import COLUMN_NAMES, SUPERSEDED, plain_name
from server.data.encodings import as_utf8
from server.data.json_lines import SUFFIXES as JSON_SUFFIXES
from server.data.json_lines import objects_in
from server.data.parquet import child, read_in_child, scan
from server.data.reading import MIB, PACKINGS, first_line, open_packed, read_file
from server.data.reading_options import plain_path
from server.data.separators import SAMPLE_BYTES, sample_lines, separator_of

MAX_BYTES: Final = 1024 * MIB
MAX_TITLE: Final = 300
TABLES: Final = (".parquet", ".arrow", ".feather", ".ipc")
IDS: Final = ("id", *COLUMN_NAMES["item"])
TITLES: Final = ("title", "booktitle", "movietitle", "name", "itemname", "productname", "appname",
                 "artistname")  # fmt: skip
WAY: Final = "--item-columns id=…,title=…"


def titles_of(
    name: str, ratings: RatingMatrix, columns: tuple[str, ...] | None, *, first: int = 0
) -> tuple[tuple[str | None, ...], str]:
    """A title, or None, for each item of some ratings, and a note on how many have one.

    first  the id of index 0, of items without ids

    Raises InputError for a file that holds no titles, or those of none of the items.
    """
    path = plain_path(name)
    ids = ratings.item_ids or tuple(map(str, range(first, first + ratings.item_count)))
    wanted = set(ids)
    found: dict[str, str] = {}
    for item, title in _pairs(path, _said(columns)):
        if item in wanted and item not in found and title.strip():
            found[item] = title.strip()[:MAX_TITLE]
    if not found:
        raise InputError(
            f"{path}: has titles of none of the {len(ids)} items, the first of which is "
            f"{one_line(ids[0], 40)!r}: does {WAY} name the right columns?"
        )
    titles = tuple(found.get(each) for each in ids)
    return titles, f"titles of {len(found)} of {len(ids)} items from {path.name}"


def _said(columns: tuple[str, ...] | None) -> dict[str, str]:
    """`id=…,title=…` by role. Raises InputError."""
    said = {}
    for word in columns or ():
        role, _, where = (part.strip() for part in word.partition("="))
        if role not in ("id", "title") or not where or role in said:
            raise InputError(f"item columns {word!r:.40}: write id=NAME,title=NAME, or numbers")
        said[role] = where
    return said


def _pairs(path: Path, said: dict[str, str]) -> Iterator[tuple[str, str]]:
    suffixes = [each.lower() for each in path.suffixes if each.lower() not in PACKINGS]
    suffix = suffixes[-1] if suffixes else ""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if suffix in JSON_SUFFIXES:
        with open_packed(path) as opened:
            yield from _of_json(objects_in(opened, str(path)), str(path), said)
        return
    data = read_file(path, limit=MAX_BYTES)
    if suffix in TABLES or data.startswith((b"PAR1", b"ARROW1")):
        words = [f"{role}={where}" for role, where in said.items()]
        table = pl.read_ipc(
            io.BytesIO(read_in_child("server.data.titles", data, str(path), *words))
        )
        yield from table.iter_rows()
        return
    if data[:1] == b"{":
        yield from _of_json(objects_in(io.BytesIO(data), str(path)), str(path), said)
        return
    yield from _of_text(as_utf8(data, str(path), None)[0].decode(), str(path), said)


def _of_json(
    objects: Iterator[tuple[int, Any]], name: str, said: dict[str, str]
) -> Iterator[tuple[str, str]]:
    places: tuple[str, str] | None = None
    for line, each in objects:
        if not isinstance(each, dict):
            raise InputError(f"{name} line {line}: not an object of JSON")
        if places is None:
            names = list(map(str, each))
            item, title = _places(names, f"{name} line {line}", said)
            places = names[item], names[title]
        identity, text = each.get(places[0]), each.get(places[1])
        # Catalogs have gaps: an entry without a title names nothing.
        if isinstance(identity, str | int) and isinstance(text, str):
            yield str(identity), text


def _of_text(text: str, name: str, said: dict[str, str]) -> Iterator[tuple[str, str]]:
    lines = sample_lines(text[:SAMPLE_BYTES])
    if not lines:
        raise InputError(f"{name}: the file is empty")
    suffix = Path(name).suffix.lower()
    usual = {".csv": ",", ".tsv": "\t", ".dat": "::", ".item": "|"}.get(suffix)
    if usual is None or usual not in lines[0]:
        usual = separator_of(lines, None, least=2) or _frequent(lines[0])
    if usual is None:
        raise InputError(f"{name}: cannot tell what separates ids and titles: write a csv of both")
    rows = _rows(text, usual)
    first = [field.strip() for field in next(rows)]
    named = any(plain_name(field) in (*IDS, *TITLES) for field in first)
    item, title = _places(first, name, said) if named else _numbered(first, name, said)
    if not named:
        yield from _fields([first], item, title, name)
    yield from _fields(rows, item, title, name)


def _frequent(line: str) -> str | None:
    return next((each for each in ("\t", "::", "|", ";", ",") if each in line), None)


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    if len(separator) > 1:
        return (line.split(separator) for line in text.splitlines() if line.strip())
    lines = io.StringIO(text, newline="")
    if separator in "\t|":
        # A quote in these is an inch, or a title's own.
        found = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    else:
        escape = "\\" if separator == ";" else None
        found = csv.reader(lines, delimiter=separator, escapechar=escape)
    return (row for row in found if row)


def _fields(
    rows: Iterator[list[str]] | list[list[str]], item: int, title: int, name: str
) -> Iterator[tuple[str, str]]:
    try:
        for number, row in enumerate(rows, start=1):
            if len(row) <= max(item, title):
                raise InputError(f"{name}: entry {number} has only {len(row)} fields")
            yield row[item].strip(), row[title]
    except csv.Error as error:
        raise InputError(f"{name}: cannot be read as fields ({first_line(error)})") from None


def _numbered(first: Sequence[str], name: str, said: dict[str, str]) -> tuple[int, int]:
    """Without a header: the first field is the id, the second the title, unless numbers say it."""
    places = []
    for role, usual in (("id", "1"), ("title", "2")):
        where = said.get(role, usual)
        if not where.isdecimal() or not 1 <= int(where[:6]) <= len(first):
            raise InputError(
                f"{name}: holds no names of columns, and {len(first)} of them: give numbers, as "
                "--item-columns id=1,title=2"
            )
        places.append(int(where) - 1)
    return places[0], places[1]


def _places(names: Sequence[str], where: str, said: dict[str, str]) -> tuple[int, int]:
    """Where the id and the title stand among names of columns. Raises InputError."""
    plain = [plain_name(name) for name in names]
    found = []
    for role, known in (("id", IDS), ("title", TITLES)):
        wanted = said.get(role)
        if wanted is not None:
            places = [at for at, name in enumerate(names) if name == wanted]
            if not places and wanted.isdecimal() and 1 <= int(wanted[:6]) <= len(names):
                places = [int(wanted) - 1]
        elif role == "id":
            places = [at for at, name in enumerate(plain) if name in known]
            exact = [at for at in places if SUPERSEDED.get(plain[at]) not in plain]
            places = exact if len(exact) == 1 else places
        else:
            places = [plain.index(name) for name in known if name in plain][:1]
        if len(places) != 1:
            shown = ", ".join(repr(one_line(name, 30)) for name in names[:6])
            what = "no" if not places else "more than one"
            raise InputError(f"{where}: {what} column for the {role} among {shown}: give {WAY}")
        found.append(places[0])
    return found[0], found[1]


def columns_of(data: bytes, name: str) -> pl.DataFrame:
    """Id and title of a table, as text; read in this process, which may not survive it."""
    try:
        lazy = scan(data)
        names = list(lazy.collect_schema())
        said = dict(word.split("=", 1) for word in sys.argv[2:])
        item, title = _places(names, name, said)
        wanted = (pl.col(names[at]).cast(pl.String).fill_null("") for at in (item, title))
        pair = [each.alias(role) for each, role in zip(wanted, ("id", "title"), strict=True)]
        return lazy.select(pair).collect()
    except (PolarsError, PanicException, OSError, ValueError) as error:
        raise InputError(f"{name}: not a parquet or Arrow file ({first_line(error)})") from None


if __name__ == "__main__":
    sys.exit(child(columns_of))
