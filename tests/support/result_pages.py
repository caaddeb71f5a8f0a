"""What the result pages say over all attacks, by the name of a row."""

from pathlib import Path

from sims.markdown_tables import tables_of

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def quoted(name: str, row: str) -> tuple[str, str, str] | None:
    """Hit ratio, the largest under any attack, accuracy; None without such a row."""
    overview = tables_of((RESULTS / name).read_text(encoding="utf-8"))[0]
    here = [one for one in overview.rows if one[0] == row]
    return (here[0][1], here[0][2], here[0][3]) if here else None
