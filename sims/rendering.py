"""A rich table as plain text and as HTML, for print() and for notebooks."""

import html
import io
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 120


def as_text(table: Table) -> str:
    """As print() shows it, without colors."""
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines())


def as_html(table: Table) -> str:
    """A plain <table>; what stands in it is text, whatever characters it has."""
    parts = ["<table>"]
    if table.title:
        parts.append(f"<caption>{_plain(table.title)}</caption>")
    headings = "".join(f"<th>{_plain(column.header)}</th>" for column in table.columns)
    parts.append(f"<thead><tr>{headings}</tr></thead><tbody>")
    rows = zip(*(list(column.cells) for column in table.columns), strict=True)
    parts += [
        "<tr>" + "".join(f"<td>{_plain(cell)}</td>" for cell in row) + "</tr>" for row in rows
    ]
    parts.append("</tbody></table>")
    if table.caption:
        parts.append(f"<p>{_plain(table.caption)}</p>")
    return "".join(parts)


def _plain(cell: Any) -> str:
    text = cell.plain if isinstance(cell, Text) else str(cell)
    return html.escape(text).replace("\n", "<br>")
