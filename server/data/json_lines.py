"""Ratings in lines of JSON, an object each, by the fields that are named or have known names.

Lines that some public files have are Python's way of writing a dict. They are read as constants,
and nothing in them is evaluated.
"""

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase
from itertools import chain, islice
from typing import Any, Final

import polars as pl

from common.errors import InputError
from server.data.columns import Columns, by_names
from server.data.encodings import as_utf8
from server.data.layouts import LAYOUTS
from server.data.limits import most_rows
from server.data.reading import MIB
from server.data.reading_options import ReadingOptions
from server.data.rows import RatingRows, checked
from server.data.texts import coded

SUFFIXES: Final = (".json", ".jsonl", ".ndjson")
MAX_BYTES: Final = 64 * 1024 * MIB
MAX_LINE_BYTES: Final = 1 * MIB
# A whole file that is one array of objects takes ten times its size to read.
MAX_ARRAY_BYTES: Final = 64 * MIB
# Rows that are kept as Python's objects at a time.
CHUNK: Final = 1 << 16
# Objects that are looked at for names of fields: some lack what others have.
SAMPLE: Final = 100
_NOT_ONE: Final = (
    ValueError, TypeError, OverflowError, RecursionError, SyntaxError, MemoryError, AttributeError,
)  # fmt: skip
_MISSING: Final = object()
WORD: Final = {"user": "user", "item": "item", "rating": "rating", "timestamp": "time"}


def parse_json_lines(
    opened: BufferedIOBase, name: str, options: ReadingOptions, *, max_bytes: int | None = None
) -> RatingRows:
    """The rows of a file of JSON lines, read line by line.

    Raises InputError naming file, line and reason.
    """
    limit = MAX_BYTES if max_bytes is None else max_bytes
    objects, unit, parse = _objects(opened, name, limit)
    sample = list(islice(objects, SAMPLE))
    head: dict[str, Any] = {}
    for place, found in sample:
        if not isinstance(found, dict):
            raise InputError(f"{name} {unit} {place}: not an object of JSON")
        head = {**found, **{key: value for key, value in head.items() if value is not None}}
    options, columns = _fields(head, f"{name} {unit} {sample[0][0]}", options)
    names = list(head)
    roles = {role: names[at] for role, at in columns.positions.items()}
    frames: list[pl.DataFrame] = []
    chunk: list[tuple[Any, ...]] = []
    places: list[int] = []
    most = most_rows()
    for count, (place, found) in enumerate(chain(sample, objects), start=1):
        chunk.append(_row(found, roles, f"{name} {unit} {place}"))
        places.append(place)
        if len(chunk) == CHUNK:
            frames.append(_frame(places, chunk, roles))
            chunk, places = [], []
        if count > most:
            raise InputError(
                f"{name}: more than {most} ratings, which need more memory than is free"
            )
    frames.append(_frame(places, chunk, roles))
    table = pl.concat([each for each in frames if each.height])
    # Of a whole record most is no rating: a note on what is left out would say nothing.
    notes = tuple(note for note in columns.notes if not note.startswith("left out"))
    if parse is _python:
        notes += ("lines are dicts of Python, and read as such",)
    return checked(table, name, unit=unit, options=options, notes=notes)


def objects_in(opened: BufferedIOBase, name: str) -> Iterator[tuple[int, Any]]:
    """The objects of a file and the numbers of their lines. Raises InputError."""
    return _objects(opened, name, MAX_BYTES)[0]


def _objects(
    opened: BufferedIOBase, name: str, limit: int
) -> tuple[Iterator[tuple[int, Any]], str, Callable[[bytes], Any] | None]:
    """The objects with their numbers, what these count, and how a line is read."""
    lines = _lines(opened, name, limit)
    first = next(lines, None)
    if first is None:
        raise InputError(f"{name}: the file is empty")
    number, line = first
    if line.lstrip()[:1] == b"[" and number == 1:
        return iter(enumerate(_array(opened, line, name), start=1)), "entry", None
    parse = _parser(line, f"{name} line {number}")
    return _parsed(number, line, lines, parse, name), "line", parse


def _lines(opened: BufferedIOBase, name: str, limit: int) -> Iterator[tuple[int, bytes]]:
    """Lines that hold something, with their numbers."""
    number = size = 0
    while line := opened.readline(MAX_LINE_BYTES + 1):
        number += 1
        size += len(line)
        if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError(f"{name}: is UTF-16: JSON is UTF-8; convert it first")
        if len(line) > MAX_LINE_BYTES and not (number == 1 and line.lstrip()[:1] == b"["):
            raise InputError(f"{name} line {number}: longer than {MAX_LINE_BYTES // MIB} MiB")
        if size > limit:
            raise InputError(f"{name}: larger than {limit // MIB} MiB; filter it first")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line


def _array(opened: BufferedIOBase, line: bytes, name: str) -> list[Any]:
    """A file that is one array of objects."""
    data = line + opened.read(MAX_ARRAY_BYTES - len(line) + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise InputError(
            f"{name}: one array of more than {MAX_ARRAY_BYTES // MIB} MiB: write an object a line, "
            "as `jq -c '.[]'` does"
        )
    text, _ = as_utf8(data, name, "utf-8")
    try:
        found = json.loads(text)
    except _NOT_ONE:
        raise InputError(f"{name} line 1: not an object of JSON, nor an array of them") from None
    if not isinstance(found, list) or not found:
        raise InputError(f"{name} line 1: not an object of JSON, nor an array of them")
    return found


def _parser(line: bytes, where: str) -> Callable[[bytes], Any]:
    """How the first line can be read."""
    for parse in (json.loads, _python):
        try:
            if isinstance(parse(line), dict):
                return parse
        except _NOT_ONE:
            continue
    raise InputError(f"{where}: not an object of JSON")


def _python(line: bytes) -> Any:
    """Constants, and dicts and lists of them: no name is looked up and nothing is called."""
    return ast.literal_eval(line.decode().strip())


def _parsed(
    number: int,
    line: bytes,
    more: Iterator[tuple[int, bytes]],
    parse: Callable[[bytes], Any],
    name: str,
) -> Iterator[tuple[int, Any]]:
    yield number, parse(line)
    for place, text in more:
        try:
            yield place, parse(text)
        except _NOT_ONE:
            raise InputError(f"{name} line {place}: not an object of JSON") from None


def _fields(
    head: Mapping[str, Any], where: str, options: ReadingOptions
) -> tuple[ReadingOptions, Columns]:
    """What the options are for such objects, and where their fields stand in the first one."""
    if options.format is None and {"business_id", "stars", "date", "user_id"} <= set(head):
        options = options.over(LAYOUTS["yelp"].options)
    names = [*map(str, head)]
    words = options.fields or options.columns or ()
    # A field inside another object is named by both, with a dot between.
    nested = [name for word in words if "." in (name := word.partition("=")[2])]
    names += [name for name in nested if name not in names and _value(head, name) is not _MISSING]
    found = by_names(names, where, options)
    if nested:
        for name in nested:
            if isinstance(head, dict):
                head.setdefault(name, _value(head, name))
    return options, found


def _value(found: Any, path: str) -> Any:
    if isinstance(found, dict) and path in found:
        return found[path]
    for part in path.split("."):
        if not isinstance(found, dict) or part not in found:
            return _MISSING
        found = found[part]
    return found


def _row(found: Any, roles: Mapping[str, str], where: str) -> tuple[Any, ...]:
    """The values of the roles. Raises InputError for what they cannot be."""
    if not isinstance(found, dict):
        raise InputError(f"{where}: not an object of JSON")
    row = []
    for role, field in roles.items():
        value = found.get(field, _MISSING)
        if value is _MISSING and "." in field:
            value = _value(found, field)
        absent = value is _MISSING or value is None
        row.append(None if absent else _checked(value, role, field, where))
    return tuple(row)


def _checked(value: Any, role: str, field: str, where: str) -> Any:
    """As text. Raises InputError for what no role is."""
    text = str(value)
    if isinstance(value, float) and role != "rating" and value.is_integer():
        text = str(int(value))
    try:
        # JSON can spell lone surrogates, which no text column holds: encoding refuses them.
        text.encode()
        if isinstance(value, float) and (role == "rating" or value.is_integer()):
            return text
        if isinstance(value, str | int) and (role == "rating" or not isinstance(value, bool)):
            return text
    except ValueError:
        pass
    way = ""
    if isinstance(value, dict):
        way = f": give --fields, as {WORD[role]}={field[:20]}.{str(next(iter(value), '…'))[:20]}"
    elif isinstance(value, list):
        way = ": write an object a line, as pandas does with orient='records', lines=True"
    raise InputError(f"{where}: field {field[:40]!r} holds no {role}: {text[:40]!r}{way}")


def _frame(
    places: list[int], rows: list[tuple[Any, ...]], roles: Mapping[str, str]
) -> pl.DataFrame:
    schema = dict.fromkeys(roles, pl.String)
    table = pl.DataFrame(rows, schema=schema, orient="row", infer_schema_length=None)
    table = table.with_columns(coded(table[role]) for role in roles if role != "timestamp")
    return table.with_columns(pl.Series("line", places, dtype=pl.Int64))
