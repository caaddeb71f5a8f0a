"""Docstrings as they are written here, for Sphinx: as reStructuredText.

They are plain text with code in backticks. A line `name  what it is` describes a parameter or a
field, and goes on in the lines that are indented below it; other indented lines are code.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

_NAME = r"\*{0,2}\w[\w.]*"
_ENTRY = re.compile(rf"({_NAME}(?:, {_NAME})*)  +(\S.*)")
_SPAN = re.compile(r"(`+)(.+?)\1")
_SPECIAL = re.compile(r"([\\*|_`]|:(?=:))")


def to_rst(lines: list[str]) -> list[str]:
    """The lines of a docstring, without its indentation."""
    made: list[str] = []
    before = ""
    for kind, line in _told(_joined(lines)):
        if kind != before:
            made += ["", "::", ""] if kind == "code" else [""]
        if kind == "entry":
            name, text = line.split("  ", maxsplit=1)
            made += [f"``{name}``", f"    {inline(text.strip()) or chr(92)}"]
        elif kind == "text":
            made.append(inline(line))
        else:
            made.append(line)
        before = kind
    return [*made, ""]


def _told(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each line with what it is: text, entry (of several lines made one), code, or example."""
    kind, entry = "text", ""
    for line, after in pairwise([*lines, ""]):
        found = _ENTRY.fullmatch(line)
        alone = re.fullmatch(_NAME, line) and (_ENTRY.fullmatch(after) or entry)
        if entry and line.startswith(" "):
            entry += f" {line.strip()}"
            continue
        if entry:
            yield "entry", entry
        entry = f"{found[1]}  {found[2]}" if found else f"{line}  " if alone else ""
        if entry:
            kind = "entry"
            continue
        if line.startswith(">>> ") or (kind == "example" and line):
            kind = "example"
        elif line.startswith(" ") or (kind == "code" and not line):
            kind = "code"
        else:
            kind = "text"
        yield kind, line
    if entry:
        yield "entry", entry


def _joined(lines: list[str]) -> list[str]:
    """With each span of code in one line, which a paragraph may have broken."""
    made: list[str] = []
    for line in lines:
        if made and made[-1] and line and made[-1].count("`") % 2:
            made[-1] += f" {line.strip()}"
        else:
            made.append(line)
    return made


def inline(text: str) -> str:
    """Code in backticks stays code; nothing else is markup."""
    parts, end = [], 0
    for span in _SPAN.finditer(text):
        plain = _SPECIAL.sub(r"\\\1", text[end : span.start()])
        parts += [plain, "\\ " if plain and plain[-1].isalnum() else "", f"``{span[2].strip()}``"]
        end = span.end()
        parts.append("\\ " if text[end : end + 1].isalnum() else "")
    return "".join([*parts, _SPECIAL.sub(r"\\\1", text[end:])])
