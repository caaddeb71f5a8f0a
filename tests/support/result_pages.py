"""What the result pages say of mf, by the name of its row: hit ratios and accuracy."""

import re
from pathlib import Path

from sims.markdown_tables import MarkdownTable, tables_of

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def quoted(name: str, row: str) -> tuple[str, str, str] | None:
    """Hit ratio under mixrand, the largest under any attack, accuracy under mixrand."""
    ratios, accuracy = tables_of((RESULTS / name).read_text(encoding="utf-8"))[:2]
    here = [one for one in ratios.rows if one[0] == row]
    if not here:
        return None
    attack = ratios.head.index("mixrand")
    found = [_mean(cell) for cell in here[0][1:]]
    return found[attack - 1], max(found), _mean(_row(accuracy, row)[attack])


def _row(table: MarkdownTable, name: str) -> tuple[str, ...]:
    (row,) = (one for one in table.rows if one[0] == name)
    return row


def _mean(cell: str) -> str:
    match = re.search(r"\d\.\d{3}", cell)
    assert match is not None, cell
    return match[0]
