"""What the pages name exists: commands and their options, modules, targets, files, links."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from typer.core import TyperGroup

from sims.cli import COMMANDS, app
from tests.support.flower_options import flower_options

ROOT = Path(__file__).resolve().parents[1]
# Without the change log, which tells of what was.
OF_ALL = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*OF_ALL, *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = ("", "sh")
SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
# What ends a command in a shell, or begins another.
END = re.compile(r"[|>;&]|\s#")
OPTION = re.compile(r"(?<!\S)--?[a-z][a-z-]*")
OURS = "common|server|client|sims|tests|benchmarks|docs|proto|configs"
FILE = re.compile(rf"(?:{OURS})/[\w./-]*\w")
NAME = re.compile(r"^((?:common|server|client|sims|benchmarks)(?:\.\w+)+)")
# Of a link in the text: the file, empty for the same page, and the heading.
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
INDEX = ROOT / "docs" / "README.md"
# Of benchmarks.
MORE_OPTIONS = {"--whole", "--short", "--picture", "--seeds", "--trial"}
# What a command writes that is not kept, and what was decided against.
NOT_KEPT = {"tests/server"}


class Found(NamedTuple):
    """A command line on a page."""

    page: str
    line: str

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def code_of(text: str) -> Iterator[str]:
    """Lines of shell in blocks, and spans in the text, each in one line."""
    for language, block in FENCE.findall(text):
        if language in SHELL:
            yield from block.replace("\\\n", " ").splitlines()
    for _, span in SPAN.findall(FENCE.sub("", text)):
        yield " ".join(span.split())


def lines(pattern: str) -> list[Found]:
    """Everything on the pages that begins with a command, up to where it ends."""
    found = set()
    for page in PAGES:
        for line in code_of(page.read_text(encoding="utf-8")):
            match = re.match(rf"(?:[A-Z_]+=\S+ )*({pattern} .*|{pattern}$)", line.strip())
            if match:
                name = page.relative_to(ROOT).as_posix()
                found.add(Found(name, END.split(match[1])[0].strip()))
    return sorted(found)


@cache
def command_of(name: str) -> Any:
    return typer.main.get_command(import_module(COMMANDS[name].module).app)


def missing(line: str) -> list[str]:
    """Commands and options of a line `vicinal …` that there are not."""
    words = line.split()[1:]
    node: Any = typer.main.get_command(app)
    while words and words[0] in option_names(node):
        words.pop(0)
    if words and words[0] == "COMMAND":
        return []
    if words and re.fullmatch("[a-z-]+", words[0]):
        if words[0] not in COMMANDS:
            return [words[0]]
        node = command_of(words.pop(0))
    if isinstance(node, TyperGroup) and words and re.fullmatch("[a-z-]+", words[0]):
        if words[0] not in node.commands:
            return [words[0]]
        node = node.commands[words.pop(0)]
    return sorted(set(OPTION.findall(" ".join(words))) - option_names(node))


def option_names(command: Any) -> set[str]:
    return {"--help", "-h", *(name for one in command.params for name in one.opts)}


@cache
def help_of(module: str, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *command, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


@pytest.mark.parametrize("found", lines("vicinal"), ids=str)
def test_every_command_and_option_exists(found: Found) -> None:
    assert missing(found.line) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| .*`(?:vicinal )?{name}\b", readme, re.MULTILINE)


@pytest.mark.parametrize("found", lines("python -m"), ids=str)
def test_every_module_and_option_exists(found: Found) -> None:
    module, *words = found.line.split()[2:]
    if module.split(".")[0] not in OURS.split("|"):
        return
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    assert '"__main__"' in source
    # Before the options, the command of a module that has several.
    command = words[:1] if words and words[0].isalpha() and "cli.command()\ndef " in source else []
    for option in OPTION.findall(" ".join(words)):
        assert option in help_of(module, *command)


@pytest.mark.parametrize("found", lines("make"), ids=str)
def test_every_target_exists(found: Found) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?<!\S)[a-z][a-z-]*(?!\S)", found.line)[1:]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or a word in one."""
    stem = ROOT / name.replace(".", "/")
    if stem.with_suffix(".py").exists() or stem.is_dir():
        return True
    module, _, last = name.rpartition(".")
    path = (ROOT / module.replace(".", "/")).with_suffix(".py")
    return path.exists() and re.search(rf"\b{last}\b", path.read_text(encoding="utf-8")) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_option_file_and_link_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = MORE_OPTIONS | option_names(typer.main.get_command(app))
    known |= {name for command in COMMANDS for name in all_options(command_of(command))}
    known |= flower_options()
    spans = list(code_of(text))
    options = {word for span in spans for word in re.findall(r"^--[a-z][a-z-]*", span)}
    files = {name for span in spans for name in FILE.findall(span)}
    assert options - known == set()
    assert {name for name in files - NOT_KEPT if not (ROOT / name).exists()} == set()
    assert {name for span in spans for name in NAME.findall(span) if not is_there(name)} == set()
    assert broken_links(page, text) == set()


def links_of(page: Path, text: str) -> Iterator[tuple[Path, str]]:
    """Files of the checkout that a page links to, each with a heading's anchor or without."""
    for link, anchor in LINK.findall(FENCE.sub("", text)):
        if "://" not in link:
            yield (page.parent / link).resolve() if link else page, anchor


def broken_links(page: Path, text: str) -> set[str]:
    return {
        f"{file.relative_to(ROOT)}#{anchor}" if anchor else str(file)
        for file, anchor in links_of(page, text)
        if not file.exists() or (anchor and anchor not in anchors(file))
    }


@cache
def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).lower()
        stem = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        again = (f"{stem}-{number}" for number in range(1, len(found) + 1))
        found.add(next(again) if stem in found else stem)
    return found


def test_the_index_leads_to_every_page() -> None:
    indexes = (INDEX, ROOT / "docs" / "decisions" / "README.md")
    linked = {
        file for page in indexes for file, _ in links_of(page, page.read_text(encoding="utf-8"))
    }
    pages = {page for page in PAGES if page != INDEX}
    assert {page.relative_to(ROOT).as_posix() for page in pages - linked} == set()
    readme = ROOT / "README.md"
    assert INDEX in {file for file, _ in links_of(readme, readme.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_page_begins_with_its_title(page: Path) -> None:
    assert re.match(r"# \S", page.read_text(encoding="utf-8"))


def test_a_broken_link_is_seen() -> None:
    page = ROOT / "docs" / "glossary.md"
    text = "[a](protocol.md#trust) [b](protocol.md#truth) [c](no.md) [d](#letters) [e](#digits)"
    assert broken_links(page, text) == {
        "docs/protocol.md#truth",
        str(ROOT / "docs" / "no.md"),
        "docs/glossary.md#digits",
    }


def all_options(command: Any) -> set[str]:
    parts = command.commands.values() if isinstance(command, TyperGroup) else ()
    return option_names(command).union(*map(option_names, parts))


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("vicinal evaluate --dataset D --model M", []),
        ("vicinal --debug evaluate --nearest 3", ["--nearest"]),
        ("vicinal data describe FILE --scale 1:5:1", []),
        ("vicinal data delete FILE", ["delete"]),
        ("vicinal train", ["train"]),
        ("vicinal attack random -o FILE -q", ["-q"]),
    ],
)
def test_a_wrong_line_is_seen(line: str, wrong: list[str]) -> None:
    assert missing(line) == wrong
