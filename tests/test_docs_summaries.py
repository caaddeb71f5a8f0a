"""The first lines of the measured pages are made from the tables that the pages have."""

from pathlib import Path

import pytest
import typer

from benchmarks import page as performance
from benchmarks.summary import LINES, summary
from common.errors import InputError
from sims.latency import page as latency
from sims.latency.headlines import headlines
from sims.markdown_tables import MarkdownTable, sections_of, tables_of
from tests.support.result_pages import quoted

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_head_of_the_performance_page_is_what_its_tables_say() -> None:
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert performance.with_head(performance.measured(text)) == text
    assert len(summary(text).splitlines()) == len(LINES)


def test_the_head_of_the_latency_page_is_what_its_tables_say() -> None:
    text = (DOCS / "latency.md").read_text(encoding="utf-8")
    assert latency.with_head(latency.measured(text)) == text
    assert len(headlines(text).splitlines()) == 8


def test_another_number_in_a_table_is_another_in_the_head() -> None:
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    changed = performance.measured(text).replace("| FULL | 256 | 22,824 |", "| FULL | 256 | 9 |")
    assert "22,824" in summary(text) and "22,824" not in summary(changed)
    text = (DOCS / "latency.md").read_text(encoding="utf-8")
    changed = latency.measured(text).replace("| loopback | 1 | 230.9 |", "| loopback | 1 | 7.5 |")
    assert "loopback 230.9" in headlines(text) and "loopback 7.5" in headlines(changed)


def test_what_is_not_in_a_table_is_left_out() -> None:
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    short = text.replace("## Reports\n", "## Something else\n").replace("| nsvd |", "| other |")
    assert len(summary(short).splitlines()) == len(LINES) - 1
    assert summary("# A page\n") == "\n"
    assert headlines("# A page\n") == ""


def test_a_page_without_sections_is_refused() -> None:
    with pytest.raises(typer.BadParameter):
        performance.measured("# A page\n")
    with pytest.raises(InputError):
        latency.measured("# A page\n")


def test_tables_are_read_back() -> None:
    text = "## One\n\n| a b | n |\n|---|---:|\n| x | 1,200 |\n| y | refused |\n\nand\n\n## Two\n"
    assert list(sections_of(text)) == ["One", "Two"]
    (table,) = tables_of(sections_of(text)["One"])
    assert table == MarkdownTable(("a b", "n"), (("x", "1,200"), ("y", "refused")))
    assert table.numbers("n") == [1200.0]
    assert table.where(a_b="y").one("n") == "refused"
    with pytest.raises(ValueError):
        table.one("n")


def test_the_page_on_defenses_quotes_the_result_pages() -> None:
    text = (DOCS / "defenses.md").read_text(encoding="utf-8")
    (table,) = tables_of(sections_of(text)["What they keep out"])
    assert len(table.rows) >= 15
    for defense, *numbers in table.rows:
        measured = [
            quoted(f"robust-{name}.md", defense) or quoted(f"robust-{name}.md", f"mf, {defense}")
            for name in ("ml-100k", "filmtrust")
        ]
        assert (*numbers,) == (*(measured[0] or "–––"), *(measured[1] or "–––")), defense


@pytest.mark.parametrize("number", ["2.86", "3,191", "1.39", "1.82", "4,799", "7,651"])
def test_the_page_on_defenses_quotes_the_performance_page(number: str) -> None:
    assert number in (DOCS / "defenses.md").read_text(encoding="utf-8")
    assert number in (DOCS / "performance.md").read_text(encoding="utf-8")
