"""The ids of factors' rows, from a file: text with one id a line, json, npy, or parquet."""

import json
from pathlib import Path
from typing import Any, Final

from common.errors import InputError
from server.data.reading import MIB, read_file
from server.data.separators import opened
from server.importing.arrays import read_npy, refuse_pickles
from server.importing.parquet import read_parquet
from server.importing.places import Place

MAX_BYTES: Final = 1024 * MIB
MAX_IDS: Final = 100_000_000


def read_ids(place: Place) -> tuple[str, ...]:
    """The ids in the order of the rows. Raises InputError for anything else.

    json is a list of ids, or an object from ids to zero-based rows.
    """
    path = place.path
    refuse_pickles(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet" or path.is_dir():
        ids = read_parquet(path, "ids", place.member)["id"].to_list()
        if None in ids:
            raise InputError(f"{path}: row {ids.index(None) + 1} has no id")
        return tuple(ids)
    if place.member is not None:
        raise InputError(f"{path}: only a parquet file has columns: leave out :{place.member}")
    if suffix == ".npy":
        return _of_array(path)
    data = read_file(path, limit=MAX_BYTES)
    if data.count(b"\n") > MAX_IDS:
        raise InputError(f"{path}: more than {MAX_IDS} lines")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} line {line}: not UTF-8 text") from None
    return _of_json(text, path) if suffix == ".json" else _of_lines(text, path)


def _of_array(path: Path) -> tuple[str, ...]:
    array = read_npy(path)
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise InputError(
            f"{path}: ids are one row of text or whole numbers, not {array.dtype} {array.shape}"
        )
    try:
        return tuple(map(str, array.tolist()))
    except (ValueError, SystemError):  # numbers beyond the last character
        raise InputError(f"{path}: its text is damaged") from None


def _of_json(text: str, path: Path) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON") from None
    if isinstance(found, dict):
        rows = list(found.values())
        if not all(type(row) is int for row in rows) or sorted(rows) != list(range(len(rows))):
            raise InputError(
                f"{path}: an object gives each id its row, and the rows are 0–{len(rows) - 1}, "
                "each once"
            )
        found = sorted(found, key=found.__getitem__)
    if not isinstance(found, list):
        raise InputError(f"{path}: give a list of ids, or an object from ids to rows")
    return tuple(_id(value, f"{path} entry {at}") for at, value in enumerate(found))


def _id(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where}: ids are text or whole numbers, not {str(value)[:40]!r}")
    try:
        return str(value)
    except ValueError:  # more digits than Python turns into text
        raise InputError(f"{where}: a number of too many digits") from None


def _of_lines(text: str, path: Path) -> tuple[str, ...]:
    ids = tuple(opened(line) for line in text.rstrip("\r\n").split("\n"))
    if ids == ("",):
        raise InputError(f"{path}: the file is empty")
    if "" in ids:
        raise InputError(f"{path} line {ids.index('') + 1}: the id is missing")
    return ids
