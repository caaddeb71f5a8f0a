"""Rating files of every kind: text with separators, JSON lines, parquet and Arrow, packed or plain.

The end of a file's name says what it is; where it says nothing, or a layout is named, what is in it
does.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from common.errors import InputError
from server.data.delimited import parse_delimited
from server.data.forms import NETFLIX, is_matrix, parse_matrix, parse_netflix
from server.data.json_lines import SUFFIXES as JSON_SUFFIXES
from server.data.json_lines import parse_json_lines
from server.data.layouts import form_of, with_layout
from server.data.limits import most_bytes
from server.data.magic import PROBE, ZIP, refuse_end, refuse_foreign
from server.data.matrices import parse_lists, parse_wide
from server.data.parquet import STREAM, parquet_files, parse_table
from server.data.parquet import read_folder as read_tables
from server.data.reading import (
    PACKINGS,
    begins,
    members_of,
    open_member,
    open_packed,
    read_file,
    read_member,
)
from server.data.reading_options import ReadingOptions
from server.data.rows import RatingRows, together

# What separates fields, by the end of the name; anything else is found out.
SEPARATED: Final = {
    ".csv": ",",
    ".tsv": "\t",
    ".data": "\t",
    ".rating": "\t",
    ".inter": "\t",
    ".dat": "::",
}
TABLES: Final = (".parquet", ".arrow", ".arrows", ".feather", ".ipc")
KINDS: Final = (*SEPARATED, *TABLES, *JSON_SUFFIXES)
_KINDS: Final = f"{' '.join(KINDS)}, packed or plain ({' '.join((*PACKINGS, ZIP))})"
# In an archive of several files the one of this name holds the ratings.
RATINGS_NAMES: Final = ("ratings", "u")

# What a folder may hold, beside one file that can be named.
FOLDERS: Final = (
    "a folder of parquet files, of parts of one text, or of Netflix' files with --format netflix"
)
# What Spark writes into a folder, and what differs between the parts of one file alone.
_PART: Final = "part-"
_NUMBERS: Final = re.compile(r"[0-9]+")
# One file a movie, as they were published, or four, as they are passed on; each may be packed.
_NETFLIX_PART: Final = re.compile(
    rf"(mv_[0-9]{{7}}|combined_data_[0-9]+)\.txt({'|'.join(map(re.escape, PACKINGS))})?"
)

Parse = Callable[[bytes, str, ReadingOptions], RatingRows]


def read_ratings(
    path: Path, options: ReadingOptions | None = None, *, max_bytes: int | None = None
) -> RatingRows:
    """The rows of a rating file.

    `max_bytes` bounds the unpacked size: what there is memory for unless given, and 64 GiB for
    JSON lines, which are read line by line. Raises InputError naming file, line and reason.
    """
    options = with_layout(options or ReadingOptions())
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    first = begins(path)
    if first.startswith(b"PK\x03\x04") or path.suffix.lower() == ZIP:
        return _of_archive(path, options, max_bytes)
    if options.member is not None:
        raise InputError(f"{path}: is no zip archive: leave out --member {options.member[:40]}")
    suffix = suffix_of(path)
    refuse_foreign(first, str(path))
    refuse_end(suffix, str(path), _KINDS)
    if _is_json(first, suffix):
        with open_packed(path) as opened:
            return parse_json_lines(opened, str(path), options, max_bytes=max_bytes)
    limit = most_bytes() if max_bytes is None else max_bytes
    suffix = "" if suffix in JSON_SUFFIXES else suffix
    return parse(read_file(path, limit=limit), str(path), suffix, options)


def _is_json(first: bytes, suffix: str) -> bool:
    """Whether a file holds JSON: as its name says, unless it begins as no JSON does."""
    start = first.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if suffix in JSON_SUFFIXES:
        return start in (b"{", b"[", b"") or not start.isascii()
    return start == b"{" and suffix not in TABLES and _is_object(first)


def _is_object(first: bytes) -> bool:
    """Whether the first line is an object, as far as it is there."""
    return b'":' in first or b"':" in first or b'" :' in first


def folder_files(folder: Path, options: ReadingOptions) -> list[Path]:
    """The files of a folder that are one data set: Netflix' where that layout is named, or parquet.

    Nothing where there are none.
    """
    if form_of(with_layout(options)) != NETFLIX:
        return parquet_files(folder) or _parts(folder)
    return sorted(path for path in folder.iterdir() if _NETFLIX_PART.fullmatch(path.name))


def _parts(folder: Path) -> list[Path]:
    """The parts of one text, where a folder holds nothing else: named alike but for numbers."""
    shown = [path for path in folder.iterdir() if not path.name.startswith((".", "_"))]
    ends = {suffix_of(path) for path in shown}
    names = {_PART if p.name.startswith(_PART) else _NUMBERS.sub("", p.name) for p in shown}
    if len(ends) != 1 or len(names) != 1 or not all(path.is_file() for path in shown):
        return []
    if len(shown) == 1 and names != {_PART}:
        return []
    return sorted(shown) if ends <= {*SEPARATED, *JSON_SUFFIXES} else []


def read_folder(folder: Path, options: ReadingOptions) -> RatingRows:
    """The rows of all folder_files(), one after another, which are counted as one file.

    Raises InputError naming folder, line and reason.
    """
    options = with_layout(options)
    if form_of(options) != NETFLIX:
        if parquet_files(folder):
            return read_tables(folder, options)
        return together(str(folder), [(p.name, read_ratings(p, options)) for p in _parts(folder)])
    limit, whole = most_bytes(), io.BytesIO()
    for path in folder_files(folder, options):
        whole.write(read_file(path, limit=max(0, limit - whole.tell())))
        whole.write(b"\n")
    return parse_netflix(whole.getvalue(), str(folder), options)


def parse(data: bytes, name: str, suffix: str, options: ReadingOptions) -> RatingRows:
    """The rows of a file's content; `suffix` is the end of its name, which may say nothing."""
    if suffix in TABLES or data.startswith((b"PAR1", b"ARROW1", STREAM)):
        return parse_table(data, name, options)
    if suffix in JSON_SUFFIXES or (suffix not in SEPARATED and data[:1] in (b"{", b"[")):
        return parse_json_lines(io.BytesIO(data), name, options)
    refuse_foreign(data[:PROBE], name)
    form = form_of(options)
    if form == NETFLIX:
        return parse_netflix(data, name, options)
    if form == "matrix" and is_matrix(data):
        return parse_matrix(data, name, options)
    if form == "wide":
        return parse_wide(data, name, options)
    if form == "lists":
        return parse_lists(data, name, options)
    usual = SEPARATED.get(suffix)
    return parse_delimited(data, name, usual, options, typed=suffix == ".inter")


def suffix_of(path: Path) -> str:
    """The end of a name that says what is in it, without what says how it is packed."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _of_archive(path: Path, options: ReadingOptions, max_bytes: int | None) -> RatingRows:
    """The one rating file in a zip archive, or the one that the options name."""
    members = members_of(path)
    if "[Content_Types].xml" in members:
        raise InputError(f"{path}: is a spreadsheet, or another document: save it as csv")
    member = _member(path, members, options.member)
    name = f"{path}:{member}"
    suffix = suffix_of(Path(member))
    refuse_end(suffix, name, _KINDS)
    if Path(member).suffix.lower() in PACKINGS:
        raise InputError(f"{name}: is packed twice: unpack the archive first")
    if suffix in JSON_SUFFIXES:
        with open_member(path, member) as opened:
            return parse_json_lines(opened, name, options, max_bytes=max_bytes)
    limit = most_bytes() if max_bytes is None else max_bytes
    return parse(read_member(path, member, limit=limit), name, suffix, options)


def _member(path: Path, members: list[str], wanted: str | None) -> str:
    if wanted is not None:
        found = [name for name in members if wanted in (name, Path(name).name)]
        if len(found) == 1:
            return found[0]
    elif len(members) == 1:
        return members[0]
    else:
        named = [
            name
            for name in members
            if Path(name).stem.lower() in RATINGS_NAMES and suffix_of(Path(name)) in KINDS
        ]
        kinds = [name for name in members if suffix_of(Path(name)) in KINDS]
        for some in (named, kinds):
            if len(some) == 1:
                return some[0]
    shown = ", ".join(name[:60] for name in members[:8]) or "nothing"
    more = f", … ({len(members)} in all)" if len(members) > 8 else ""
    what = "holds several files" if wanted is None else f"holds no one file {wanted[:40]!r}"
    raise InputError(f"{path}: {what}: name one with --member: {shown}{more}")
