"""`vicinal compare`: from two commands of `evaluate` to a table and a JSON file."""

import json
from pathlib import Path

import pytest

from sims.cli import run
from sims.evaluation import keys
from sims.evaluation.per_user import CALLED, SCHEMA
from tests.support.result_keys import differences

SMALL = ["--dataset", "synthetic:80x120", "--k", "10", "--min-support", "2", "--steps", "2"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("compare")
    found = (folder / "rvd.parquet", folder / "none.parquet")
    for path in found:
        command = ["evaluate", *SMALL, "--store", str(folder / "store"), "--processes", "1"]
        assert run([*command, "--defense", path.stem, "--per-user", str(path)]) == 0
    return found


def test_the_table_and_the_json(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "c.json"
    assert run(["compare", *map(str, files), "--json", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "B − A" in shown and "accuracy@50" in shown and "rvd (vicinal)" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    told = json.loads(output.read_text())
    assert differences(told, keys.COMPARED) == set()
    assert told["users"] == 80 and "rvd" in told["first"] and "none" in told["second"]
    assert run(["compare", *map(str, files), "--json", str(tmp_path / "d.json")]) == 0
    assert (tmp_path / "d.json").read_bytes() == output.read_bytes()
    assert set(keys.PER_USER) == set(SCHEMA) | set(CALLED)


def test_two_conditions_of_one_file(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", str(files[0]), str(files[0]), "--condition", "ease,defended"]) == 0
    shown = capsys.readouterr().out
    assert "ease" in shown and "· defended" in shown.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--condition", "a,b,c"], "give one name, or one for each file"),
        (["--condition", "defendet"], "did you mean defended?"),
    ],
)
def test_mistakes_are_one_line(
    files: tuple[Path, Path], options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *map(str, files), *options]) == 2
    errors = capsys.readouterr().err
    assert line in errors and errors.count("\n") == 1


def test_a_file_of_other_users_is_refused(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.parquet"
    command = ["evaluate", *SMALL, "--store", str(tmp_path / "store"), "--users", "30"]
    assert run([*command, "--processes", "1", "--per-user", str(other)]) == 0
    capsys.readouterr()
    assert run(["compare", str(files[0]), str(other)]) == 2
    errors = capsys.readouterr().err
    assert "of other users" in errors and errors.count("\n") == 1
