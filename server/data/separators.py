"""What separates the fields of a text, and how many of them each line has.

Quotes are those of RFC 4180: a field in quotes may hold separators, line ends and doubled quotes.
"""

import csv
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Tried in this order where nothing else tells: the first cuts all lines into equally many fields.
SEPARATORS: Final = ("\t", "::", ";", "|", ",", " ")
NAMES: Final = {"\t": "tabs", " ": "spaces"}
# What stands for a separator of several characters while the fields are cut.
STAND_IN: Final = "\x1f"
PADDING: Final = " \t\r"
SAMPLE_BYTES: Final = 64 << 10
SAMPLE_LINES: Final = 100
CHUNK: Final = 16 << 20
# A backslash before a quote that ends no field, as MySQL writes it.
_ESCAPED: Final = re.compile(r'\\"(?![,;|\t\r\n"]|$)')
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')


def sample_lines(text: str) -> list[str]:
    """The first lines that hold something, without what stands in quotes."""
    whole = len(text) < SAMPLE_BYTES
    lines = [line.strip("\r") for line in _QUOTED.sub('""', _ESCAPED.sub('""', text)).split("\n")]
    # The last one may be cut off.
    lines = lines if whole or len(lines) < 2 else lines[:-1]
    return [line for line in lines if line.strip()][:SAMPLE_LINES]


def separator_of(lines: list[str], usual: str | None, *, least: int = 3) -> str | None:
    """What cuts every line into equally many fields, at least so many; None where nothing does.

    usual  of files of that name: taken wherever it does, and where nothing else does
    """
    fitting = []
    for each in SEPARATORS:
        counts = {len(cut(line, each)) for line in lines}
        if len(counts) == 1 and min(counts) >= least:
            fitting.append(each)
    if usual in fitting or not fitting:
        return usual
    return fitting[0]


def cut(line: str, separator: str) -> list[str]:
    """The fields of one line, without quotes and padding."""
    if separator == " ":
        line = re.sub("[ \t]+", " ", line.strip(PADDING))
    if '"' in line and len(separator) == 1:
        try:
            fields = next(csv.reader([line.rstrip("\r")], delimiter=separator), [])
        except csv.Error:
            fields = line.split(separator)
    else:
        fields = line.split(separator)
    return [opened(field) for field in fields]


def opened(field: str) -> str:
    """Without padding, and without quotes around the whole.

    >>> opened(' "a b" '), opened('7"')
    ('a b', '7"')
    """
    field = field.strip(PADDING)
    return field[1:-1].replace('""', '"') if _QUOTED.fullmatch(field) else field


def shown(separator: str) -> str:
    r"""For a message.

    >>> shown("\t"), shown(";")
    ('tabs', "';'")
    """
    return NAMES.get(separator, repr(separator))


@dataclass(frozen=True)
class Rows:
    """How a text falls into rows.

    lines   the line in which each row begins, counted from 0; None where every line is a row
    fault   the first row of another width: its line, counted from 0, and how many fields it has
    closed  whether every quote is closed
    """

    lines: NDArray[np.int64] | None
    fault: tuple[int, int] | None
    closed: bool


def rows_of(data: bytes | memoryview, separator: str, width: int, *, quoted: bool) -> Rows:
    """Count the fields of every row; a blank row is none. One pass in bounded memory."""
    octets = np.frombuffer(data, dtype=np.uint8)
    mark = ord(separator)
    inside = carried = row_start = row_line = line = 0
    starts, several = [np.zeros(1, dtype=np.int64)], False
    for offset in range(0, len(octets), CHUNK):
        part = octets[offset : offset + CHUNK]
        separates, ends = part == mark, part == ord("\n")
        if quoted:
            # Odd inside of quotes; a doubled quote changes it twice.
            parity = (np.cumsum(part == ord('"'), dtype=np.uint8) + np.uint8(inside)) & 1
            inside = int(parity[-1])
            separates &= parity == 0
        at, breaks = np.flatnonzero(separates), np.flatnonzero(ends)
        numbers = line + 1 + np.arange(len(breaks))
        line += len(breaks)
        if quoted:
            outside = parity[breaks] == 0
            several |= not bool(outside.all())
            breaks, numbers = breaks[outside], numbers[outside]
            starts.append(numbers)
        before = np.searchsorted(at, breaks)
        counts = np.diff(before, prepend=0)
        if len(counts):
            counts[0] += carried
        carried = len(at) - int(before[-1]) if len(before) else carried + len(at)
        edges = np.concatenate([[row_start], breaks + offset + 1])
        row_start = int(edges[-1])
        fault = _fault(data, counts, edges, width)
        if fault is not None:
            row, found = fault
            return Rows(None, (int(numbers[row - 1]) if row else row_line, found), not inside)
        row_line = int(numbers[-1]) if len(numbers) else row_line
    if carried != width - 1 and bytes(data[row_start:]).strip():
        return Rows(None, (row_line, carried + 1), not inside)
    return Rows(np.concatenate(starts) if several else None, None, not inside)


def _fault(
    data: bytes | memoryview, counts: NDArray[np.int64], edges: NDArray[np.int64], width: int
) -> tuple[int, int] | None:
    """The first row that is not blank and has another number of fields, and how many it has."""
    wrong = counts != width - 1
    wrong &= (counts > 0) | (np.diff(edges) > 1)
    for row in np.flatnonzero(wrong):
        if bytes(data[edges[row] : edges[row + 1]]).strip():
            return int(row), int(counts[row]) + 1
    return None
