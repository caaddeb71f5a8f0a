"""What a stranger says becomes one short line that no terminal obeys."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import common.text
from common.text import one_line


@given(st.text(st.characters()), st.integers(2, 50))
def test_any_text_is_one_printable_line(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most and line.isprintable() and line == " ".join(line.split())


@pytest.mark.parametrize(
    "unwanted",
    ["\x1b[2J", "\x9b31m", "\u202etxt", "\u2066", "a\u200bb", "\u2028", "\ufe0f", "\u3164", "\x00"],
)
def test_what_is_obeyed_or_not_seen_is_spelled_out(unwanted: str) -> None:
    line = one_line(f"begin {unwanted} end")
    assert line.isascii() and line.startswith("begin") and line.endswith("end")


def test_letters_of_all_languages_stay() -> None:
    assert one_line("Käse für 日本語, ערב") == "Käse für 日本語, ערב"


def test_a_megabyte_is_cut_at_once() -> None:
    assert one_line("x" * 1_000_000) == "x" * 199 + "…"
    assert one_line(" " * 1_000_000 + "x") == "…"
    assert one_line("a\n\n b\udcff") == "a b\\xff"


def test_the_example_holds() -> None:
    assert doctest.testmod(common.text).failed == 0
