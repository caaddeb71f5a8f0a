"""Tables of a page of Markdown, read back: for summaries that are made from what stands there."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class MarkdownTable:
    """Cells as they are written; of columns with the same name, the first is found."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def where(self, **values: str) -> "MarkdownTable":
        """The rows that have these values; `_` in a name is a space in the column's.

        >>> MarkdownTable(("a", "b"), (("1", "2"), ("3", "4"))).where(a="3").column("b")
        ['4']
        """
        wanted = {self.head.index(name.replace("_", " ")): value for name, value in values.items()}
        kept = (row for row in self.rows if all(row[at] == it for at, it in wanted.items()))
        return MarkdownTable(self.head, tuple(kept))

    def column(self, name: str) -> list[str]:
        """Raises ValueError for a column that there is not."""
        at = self.head.index(name)
        return [row[at] for row in self.rows]

    def numbers(self, name: str) -> list[float]:
        """A column's, without those that are none (`refused`); `12,345` and `76.9%` are some."""
        return [float(cell) for text in self.column(name) if _is_number(cell := _plain(text))]

    def one(self, name: str) -> str:
        """The cell of the only row. Raises ValueError when there is another number of them."""
        (cell,) = self.column(name)
        return cell


def sections_of(page: str) -> dict[str, str]:
    """What stands under each heading of the second level, by heading, in order."""
    parts = f"\n{page}".split("\n## ")[1:]
    return {part.split("\n", 1)[0].strip(): part.partition("\n")[2] for part in parts}


def tables_of(text: str) -> list[MarkdownTable]:
    """Every table of a text, in order."""
    return [
        MarkdownTable(block[0], tuple(block[2:]))
        for block in _blocks(text.splitlines())
        if len(block) > 2
    ]


def _blocks(lines: list[str]) -> Iterator[list[tuple[str, ...]]]:
    block: list[tuple[str, ...]] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            block.append(tuple(cell.strip() for cell in line.strip().strip("|").split("|")))
        elif block:
            yield block
            block = []


def _plain(text: str) -> str:
    return text.replace(",", "").rstrip("%*= ")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
