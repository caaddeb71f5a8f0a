"""One parameter of a command that is many options on the command line."""

import pytest
import typer

from sims.cli import run
from sims.commands.expanding import expanded
from sims.commands.options import StudyOptions


def test_a_default_of_a_misspelt_name_is_an_error() -> None:
    def command(study: StudyOptions) -> None:
        raise AssertionError(study)

    with pytest.raises(TypeError, match="command has no options atack"):
        expanded(atack="none")(command)


def test_fields_are_options_with_the_commands_own_defaults() -> None:
    given: list[tuple[StudyOptions, int]] = []

    def command(study: StudyOptions, more: int = 3) -> None:
        given.append((study, more))

    app = typer.Typer()
    app.command()(expanded(attack="none")(command))
    app(["--model", "nsvd", "--k", "7"], standalone_mode=False)
    ((study, more),) = given
    assert (study.attack, study.model, study.k, study.dataset, more) == (
        ("none", "nsvd", 7, "ml-100k", 3)
    )


@pytest.mark.parametrize("command", ["evaluate", "serve", "simulate"])
def test_commands_of_a_study_have_all_its_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    for name in StudyOptions.__dataclass_fields__:
        assert f"--{name.replace('_', '-')} " in shown
