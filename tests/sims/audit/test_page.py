"""docs/privacy.md is printed from files of `vicinal audit --json`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sims.audit.page import app, command_of, page_of
from sims.audit.report import FIGURES
from sims.cli import run

QUICK = ["--splits", "1", "--accounts", "5", "--queries", "20"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    asked = ["audit", "--dataset", "synthetic:60x80", "--k", "5", *QUICK]
    files = ["--store", str(folder / "store"), "--json", str(folder / "a.json")]
    assert run([*asked, *files]) == 1
    return folder / "a.json"


def test_a_page_has_every_figure_and_its_command(written: Path) -> None:
    told = json.loads(written.read_text())
    page = page_of([told])
    assert "## synthetic:60x80, mf, rows, preset vicinal --k 5, random knowledge" in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(FIGURES)
    command = command_of(told)
    assert f"\n{command}\n" in page
    assert "--dataset synthetic:60x80" in command and "--k 5 " in command
    assert "--splits 1 --accounts 5 --queries 20 --seed 0" in command
    assert "- --max-linkage 0.01: " in page


def test_the_module_prints_it(written: Path) -> None:
    done = CliRunner().invoke(app, [str(written)])
    assert done.exit_code == 0 and done.output == page_of([json.loads(written.read_text())])


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"dataset": 1}', "\0"])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    done = CliRunner().invoke(app, [str(path)])
    assert done.exit_code == 2
    assert "no file of `vicinal audit --json`" in done.output and done.output.count("\n") == 1
    assert CliRunner().invoke(app, [str(tmp_path / "none.json")]).exit_code == 2
