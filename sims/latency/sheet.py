"""Tables that stand in a terminal and on a page."""

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Sheet:
    """heads and rows; the first `texts` columns are words, the others numbers.

    notes  lines below it
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    notes: tuple[str, ...] = ()

    def show(self, console: Console) -> None:
        """For a terminal of 80 columns."""
        made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for place, head in enumerate(self.heads):
            made.add_column(head, justify="left" if place < self.texts else "right")
        for row in self.rows:
            made.add_row(*row)
        console.print(self.title, style="bold", markup=False, highlight=False)
        console.print(made)
        for note in self.notes:
            console.print(note, markup=False, highlight=False)
        console.print()

    def markdown(self) -> str:
        """With its title as a paragraph, and its notes as another."""
        rule = ["---"] * self.texts + ["---:"] * (len(self.heads) - self.texts)
        lines = [f"| {' | '.join(cells)} |" for cells in (self.heads, *self.rows)]
        lines.insert(1, f"|{'|'.join(rule)}|")
        parts = [f"**{self.title}**", "\n".join(lines), " ".join(self.notes)]
        return "\n\n".join(part for part in parts if part)
