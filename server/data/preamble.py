"""What stands above a table in a text: blank lines, comments, `sep=;`, a header behind a #."""

import re
from collections.abc import Iterator
from typing import Final

from common.errors import InputError
from server.data.columns import role_of
from server.data.reading_options import ReadingOptions
from server.data.separators import SAMPLE_BYTES, SEPARATORS, cut

# How comments begin; a percent sign before a letter is an id's.
_COMMENT: Final = re.compile(r"%([^0-9A-Za-z]|$)|#|//")
_SURE: Final = ("%", "# ", "// ")


def preamble(
    data: bytes, name: str, options: ReadingOptions
) -> tuple[int, int, str | None, list[str]]:
    """Where the first line of the table begins, its number, the separator, and notes.

    Before it may stand blank lines, comments, and `sep=;` as Excel writes it. Raises InputError.
    """
    start, number, separator = 0, 1, options.separator
    comments: list[tuple[int, int, str]] = []
    for start, number, line in _lines(data):
        if number <= (options.skip_lines or 0) or not line:
            continue
        stated = re.fullmatch(r'"?sep=(.|\\t)"?', line, re.IGNORECASE) if number == 1 else None
        if stated:
            separator = separator or {"\\t": "\t"}.get(stated[1], stated[1])
        elif line.startswith("%%MatrixMarket"):
            return _matrix_market(data, name, line)
        elif _COMMENT.match(line) and (line.startswith(_SURE) or not _is_row(line)):
            comments = [*comments[-1:], (start, number, line)]
        else:
            break
    else:
        start, line = len(data), ""
    if line.startswith("#"):
        below = next((text for at, _, text in _lines(data, start) if at > start and text), "")
        if names := _names(line, below):
            return start + data[start:].find(names), number, separator, _left_out(comments)
    elif comments:
        at, above, text = comments[-1]
        if names := _names(text, line):
            rest = _left_out(comments[:-1])
            return at + data[at:start].find(names), above, separator, rest
    return start, number, separator, _left_out(comments)


def _left_out(comments: list[tuple[int, int, str]]) -> list[str]:
    return ["lines of comments before the ratings are left out"] if comments else []


def _lines(data: bytes, start: int = 0) -> Iterator[tuple[int, int, str]]:
    """Where each line begins, its number from `start`, and what it holds, cut to a sample."""
    number = 1
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        line = data[start : min(end, start + SAMPLE_BYTES)]
        yield start, number, line.decode(errors="replace").strip()
        start, number = end + 1, number + 1


def _is_row(line: str) -> bool:
    """Whether something separates fields in a line."""
    return any(each in line for each in SEPARATORS if each != " ")


def _names(comment: str, below: str) -> bytes:
    """What a comment says behind its sign, where that names the columns of the line below."""
    line = comment.lstrip("#%/ ")
    for each in SEPARATORS:
        fields = cut(line, each)
        if len(fields) == len(cut(below, each)) and len(list(filter(role_of, fields))) > 1:
            return line.encode()
    return b""


def _matrix_market(data: bytes, name: str, first: str) -> tuple[int, int, str, list[str]]:
    """The lines below the one of sizes. Raises InputError for what is no table of places."""
    words = first.lower().split()
    if words[1:3] != ["matrix", "coordinate"] or words[-1] != "general":
        raise InputError(f"{name} line 1: of Matrix Market only `matrix coordinate … general`")
    sized = False
    for start, number, line in _lines(data):
        if sized:
            return start, number, " ", ["a matrix of Matrix Market: its line of sizes is left out"]
        sized = bool(line) and not line.startswith("%")
    raise InputError(f"{name}: holds no ratings")
