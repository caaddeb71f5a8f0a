"""What a report says, before it is written as HTML, Markdown, CSV or a manifest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from common.text import one_line

# Of a text: a list of missed cells is long.
MOST_LETTERS: Final = 100_000


@dataclass(frozen=True)
class Number:
    """A cell of a table that is better than the paper's, or misses a goal."""

    text: str
    better: bool = False
    missed: bool = False

    def __str__(self) -> str:
        return self.text


Entry = str | Number


@dataclass(frozen=True)
class ReportTable:
    """A heading, column names and rows; `folded` ones open at a click."""

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """An SVG; `told` says what is to be seen to those who do not see it."""

    heading: str
    svg: bytes
    told: str


@dataclass(frozen=True)
class Section:
    """What stands under one heading, in this order; whatever is empty is left out."""

    heading: str
    text: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    tables: tuple[ReportTable, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @property
    def name(self) -> str:
        """For links: letters, digits and hyphens."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.heading.lower()).split())


@dataclass(frozen=True)
class Document:
    """A whole report.

    title     of the page
    summary   the first lines
    rows      what the tables were made of, a row a result, for CSV
    files     that it was made of
    commands  that made the results, as far as they were recorded
    versions  of vicinal, Python and libraries that made them; empty where not recorded
    asked     what was asked for, by name
    """

    title: str
    summary: tuple[str, ...]
    sections: tuple[Section, ...]
    rows: tuple[Mapping[str, Any], ...]
    files: tuple[Path, ...]
    commands: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    def shown(self) -> Iterator[Section]:
        """Sections that say something."""
        for one in self.sections:
            if one.text or one.points or one.commands or one.tables or one.pictures:
                yield one


def printable(told: Any) -> Any:
    """The same JSON, what is not printable in its texts spelled out: pictures are XML, too.

    >>> printable({"a": ["b" + chr(27)]}) == {"a": ["b" + chr(92) + "x1b"]}
    True
    """
    if isinstance(told, str):
        return told if told.isprintable() else one_line(told, MOST_LETTERS)
    if isinstance(told, Mapping):
        return {printable(name): printable(part) for name, part in told.items()}
    return [printable(part) for part in told] if isinstance(told, list) else told


def table_of(
    heading: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Entry]],
    note: str = "",
    *,
    folded: bool = False,
) -> ReportTable:
    """Raises ValueError for a row that is longer or shorter than the head."""
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{heading}: {len(row)} entries for {len(head)} columns")
    return ReportTable(heading, tuple(head), tuple(map(tuple, rows)), note, folded)
