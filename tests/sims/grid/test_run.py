"""`vicinal grid` with a real Ray: what it measures, resumes and survives, and leaves behind."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sims.cli import run
from sims.grid.config import read_config
from sims.grid.results import CELLS, RUNS, cell_path, read_results
from sims.processes.marked import marked_processes
from tests.support.child_processes import command_of

pytestmark = pytest.mark.slow

NAME = "synthetic:90x120"
CONFIG = f"""
datasets = ["{NAME}"]
attacks = ["random", "average", "file:/no/such.csv"]
users = 30
[k.paper."{NAME}"]
mf = 8
[k.vicinal."{NAME}"]
mf = 9999
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid that ran once; one of its attacks fails, and preset vicinal asks for too large a k."""
    base = tmp_path_factory.mktemp("grid")
    (base / "grid.toml").write_text(CONFIG)
    command = ["grid", str(base / "grid.toml"), "--folder", str(base / "run"), "--processes", "2"]
    assert run(command) == 1
    return base


def test_a_failing_cell_is_recorded_and_stops_no_other(folder: Path) -> None:
    results = read_results(folder / "run")
    failed = [one for one in results if one.error]
    assert len(results) == 9 and len(failed) == 3
    assert {(one.attack, one.error) for one in failed} == {
        ("file:/no/such.csv", "/no/such.csv: no such file")
    }
    assert "### Failed" in (folder / "run" / "tables.md").read_text()


def test_k_is_capped_at_the_users_there_are(folder: Path) -> None:
    capped = {
        one.k for one in read_results(folder / "run") if one.users and one.preset == "vicinal"
    }
    assert capped == {90}


def test_a_cell_is_what_evaluate_measures(folder: Path) -> None:
    command = ["evaluate", "--dataset", NAME, "--attack", "average", "--defense", "rvd"]
    command += ["--preset", "paper", "--k", "8", "--users", "30", "--processes", "1"]
    command += ["--store", str(folder / "store"), "--json", str(folder / "one.json")]
    assert run(command) == 0
    expected: dict[str, Any] = json.loads((folder / "one.json").read_text())
    (cell,) = (
        one
        for one in read_results(folder / "run")
        if (one.attack, one.preset) == ("average", "paper")
    )
    assert cell.hit_ratio == expected["hit_ratio"]
    assert cell.accuracy == expected["accuracy"]
    assert cell.accuracy_thresholded == expected["accuracy_thresholded"]
    assert cell.fake_neighbor_share == expected["fake_neighbor_share"]
    assert cell.targets == expected["targets"]
    assert cell.warnings == expected["warnings"]


def test_what_has_a_result_is_not_run_again(folder: Path) -> None:
    config = read_config(folder / "grid.toml")
    paths = [cell_path(folder / "run", cell) for cell in config.cells()]
    written = {path: path.stat().st_mtime_ns for path in paths}
    missing = paths[0]
    before = json.loads(missing.read_text())
    missing.unlink()
    command = ["grid", str(folder / "grid.toml"), "--folder", str(folder / "run")]
    assert run(command) == 1
    after = json.loads(missing.read_text())
    assert {**after, "seconds": {}} == {**before, "seconds": {}}
    assert all(path.stat().st_mtime_ns == written[path] for path in paths[1:])


def test_results_of_another_version_are_refused_before_anything_runs(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = read_config(folder / "grid.toml")
    path = cell_path(tmp_path, config.cells()[0])
    path.parent.mkdir()
    path.write_text('{"format": 99}')
    assert run(["grid", str(folder / "grid.toml"), "--folder", str(tmp_path)]) == 2
    assert "format 99, written by another version" in capfd.readouterr().err
    assert [one.name for one in (tmp_path / CELLS).iterdir()] == [path.name]


def test_nothing_is_left(folder: Path) -> None:
    left = {path.name for path in (folder / "run").iterdir()}
    assert left == {CELLS, RUNS, "lock", "results.parquet", "tables.md"}
    children = {
        process.pid
        for process in marked_processes("VICINAL_RAY=none", [os.getpid()])
        if b"ray" in command_of(process.pid)
    }
    assert children == set()
