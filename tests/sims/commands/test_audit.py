"""`vicinal audit`: from a command to a table, a JSON file and an exit code."""

import json
from pathlib import Path

import pytest

from sims import recorded
from sims.audit.report import FIGURES, KEYS
from sims.cli import run
from tests.support.result_keys import differences

FEW = ["--accounts", "10", "--queries", "30"]
SMALL = ["audit", *FEW, "--dataset", "synthetic:80x120", "--splits", "2"]
GOALS = ["--max-linkage", "1", "--max-auc", "1", "--max-exposed", "1", "--max-hr", "1"]


def test_goals_are_told_and_decide_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, store = tmp_path / "a.json", ["--store", str(tmp_path / "store")]
    assert run([*SMALL, *store, "--json", str(output)]) == 1
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    told = json.loads(output.read_text())
    names = {"FIGURE": FIGURES, "NAME": told["run"]["versions"]}
    assert differences(told, {**KEYS, **recorded.KEYS}, **names) == set()
    assert told["missed"] and shown.splitlines()[-len(told["missed"]) :] == told["missed"]
    assert told["figures"]["linkage.recall"]["mean"] > 0.5
    assert told["figures"]["linkage.recall"]["error"] is not None
    # The same models again, and every goal as wide as it can be.
    assert run([*SMALL, *store, *GOALS, "--min-accuracy", "0", "--json", str(output)]) == 0
    assert json.loads(output.read_text())["figures"] == told["figures"]


@pytest.mark.slow
def test_processes_find_what_one_finds_and_keep_their_models(tmp_path: Path) -> None:
    told, kept = [], []
    for processes in ("1", "2"):
        output, store = tmp_path / f"{processes}.json", tmp_path / f"store-{processes}"
        options = ["--processes", processes, "--store", str(store), "--json", str(output)]
        assert run([*SMALL, *options]) == 1
        told.append({**json.loads(output.read_text()), "run": None})
        kept.append({path.name for path in (store / "versions").iterdir()})
    assert told[0] == told[1]
    assert kept[0] == kept[1] and len(kept[0]) == 2 * 7


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--release", "cell"], "unknown release 'cell'"),
        (["--knowledge", "all"], "unknown knowledge 'all'"),
        (["--attack", "none"], "an audit plants fakes"),
        (["--model", "popularity"], "popularity"),
        (["--dataset", "synthetic:20x30"], "too few to audit"),
        (["--max-auc", "2"], "--max-auc"),
        (["--queries", "9"], "--queries"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*SMALL, "--store", str(tmp_path / "store"), *options]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
