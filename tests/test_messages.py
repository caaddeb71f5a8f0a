"""What messages of the code name exists: commands, and their options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from sims.cli import COMMANDS, app
from tests.support.flower_options import flower_options
from tests.test_docs_commands import (
    Found,
    all_options,
    command_of,
    lines,
    missing,
    option_names,
)

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("common", "server", "client", "sims")
LINE = re.compile(r"`(vicinal [^`]*)`")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")
# They speak to pip, and of options of their own.
OF_OTHERS = {
    "server/data/sources.py",
    "sims/processes/postgresql.py",
    "sims/selection/neighbor_measures.py",
    "sims/recorded.py",
    "sims/tracking/tensorboard_folder.py",
}


def texts(path: Path) -> Iterator[str]:
    """Every string of a module, an f-string as one with `X` for what is filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            yield "".join(map(str, parts))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            yield node.value


def messages() -> list[tuple[str, str]]:
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return [
        (path.relative_to(ROOT).as_posix(), text)
        for path in paths
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
        for text in texts(path)
    ]


def test_commands_in_messages_exist() -> None:
    named = [
        (name, " ".join(line.split())) for name, text in messages() for line in LINE.findall(text)
    ]
    assert len(named) > 10
    assert [(name, line, missing(line)) for name, line in named if missing(line)] == []


def test_options_in_messages_exist() -> None:
    known = option_names(typer.main.get_command(app)) | flower_options()
    known |= {name for command in COMMANDS for name in all_options(command_of(command))}
    named = [
        (name, option)
        for name, text in messages()
        if name not in OF_OTHERS
        for option in OPTION.findall(text)
    ]
    assert len(named) > 100
    assert sorted({(name, option) for name, option in named if option not in known}) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("raise E(f'{path}: `vicinal simulate --prepare {x}` writes it')", ["--prepare"]),
        ("raise E('give --clients' ' or --pre')", ["--clients", "--pre"]),
    ],
)
def test_an_option_in_a_message_is_seen(source: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(source)
    assert [option for text in texts(tmp_path / "a.py") for option in OPTION.findall(text)] == found


@pytest.mark.parametrize("found", lines("(?:flwr|flower-superlink|flower-supernode)"), ids=str)
def test_every_option_of_flower_on_the_pages_exists(found: Found) -> None:
    assert set(OPTION.findall(found.line)) - flower_options() == set()


def test_an_option_that_flower_lacks_is_seen() -> None:
    assert "--supernode-port" not in flower_options()
    assert {"--run-config", "--node-config", "--enable-supernode-auth"} <= flower_options()


def test_a_wrong_command_in_a_message_is_seen() -> None:
    assert missing("vicinal simulate --prepare FOLDER") == ["--prepare"]
