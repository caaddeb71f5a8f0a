"""Help of every command: paragraphs that flow, metavars, nothing unexplained."""

import re
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
from typer.core import TyperGroup

from sims.attacks import ATTACKS
from sims.cli import COMMANDS, run
from sims.commands.help import command_of, declared, flowing


def parts() -> list[tuple[str, Any]]:
    """Every command by what one types, data's two each."""
    found: list[tuple[str, Any]] = []
    for name, entry in COMMANDS.items():
        command = command_of(entry.module)
        if isinstance(command, TyperGroup):
            found += [(f"{name} {part}", one) for part, one in command.commands.items()]
        else:
            found.append((name, command))
    return found


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run([*name.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, _ in parts()])
def test_paragraphs_break_where_the_window_ends(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    text = help_of(name, capsys).split("╭")[0]
    lines = [line.strip() for line in text.splitlines()]
    for line, following in pairwise(lines):
        if line and following:
            # The next word did not fit.
            assert len(line) + 1 + len(following.split()[0]) > 78, line


@pytest.mark.parametrize("name", [name for name, _ in parts()])
def test_no_range_fills_the_window_with_digits(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(name, capsys)
    assert not re.search(r"\d{9}|INTEGER|FLOAT|(int|float) range", text)


@pytest.mark.parametrize(("name", "command"), parts(), ids=[name for name, _ in parts()])
def test_everything_is_explained(name: str, command: Any) -> None:
    for one in declared(command.callback):
        text = one.info.help
        assert text and text.endswith("."), (name, one.name)
        assert len(text.split()) > 1, (name, one.name)
    given = [parameter.name for parameter in command.params]
    assert [one.name for one in declared(command.callback)] == given
    assert all(parameter.help for parameter in command.params)


@pytest.mark.parametrize("name", ["attack", "evaluate"])
def test_every_attack_is_in_a_list(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(ATTACKS) <= set(re.findall(r"[a-z-]+", help_of(name, capsys)))


def test_brackets_are_not_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    assert "synthetic[:UxI[xN]]" in help_of("data describe", capsys)


def test_a_seed_that_is_too_large_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--seed", str(2**63)]) == 2
    assert "is not in the range 0–9223372036854775807" in capsys.readouterr().err


def test_a_command_has_one_function_that_says_what_it_takes() -> None:
    serve = import_module("sims.commands.serve").app.registered_commands[0].callback
    options = {one.name: one for one in declared(serve)}
    assert options["tls_key"].spellings == ["--tls-key"]
    assert options["seed"].metavar == "N" and options["compiled"].metavar == ""


def test_paragraphs_are_joined() -> None:
    assert flowing("First\n    line.\n\n    Second\n    one.") == "First line.\n\nSecond one."
