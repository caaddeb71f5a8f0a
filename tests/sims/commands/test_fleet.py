"""`vicinal fleet` with Flower's real processes: what it finds, and that nothing is left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from common.errors import VicinalError
from common.ranking import Counts
from sims.cli import run
from sims.fleet.deployed import require_equal
from sims.fleet.deployment import node_config
from sims.fleet.run import CHECKOUT
from sims.processes.marked import marked_processes
from tests.sims.commands.test_simulate import leftovers, mark, scratch, until
from tests.support.child_processes import command_of

__all__ = ["mark", "scratch"]
COUNTS = Counts((9, 8), (3, 2), 10, 5, 4, 2)


def start(folder: Path, mark: str, *options: str) -> subprocess.Popen[str]:
    name, _, value = mark.partition("=")
    arguments = ["--dataset", "synthetic:120x80", "--list-length", "10"]
    arguments += ["--store", str(folder / "store"), "--folder", str(folder / "fleet")]
    arguments += ["--json", str(folder / "out.json")]
    return subprocess.Popen(
        [sys.executable, "-m", "sims.cli", "fleet", *arguments, *options],
        cwd=folder,
        env={**os.environ, name: value, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def node_pid(mark: str, node: int) -> Iterator[int]:
    for process in marked_processes(mark):
        command = command_of(process.pid).split(b"\0")
        if b"client.flower_node" in command and any(
            each.startswith(f"partition-id={node} ".encode()) for each in command
        ):
            yield process.pid


@pytest.mark.slow
def test_three_nodes_count_what_one_process_counts(
    mark: str, scratch: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, mark)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert out.endswith("the tally of 3 nodes is that of one process, to the last count\n")
    result = json.loads((tmp_path / "out.json").read_bytes())
    assert (result["clients"], result["users"]) == (3, 120)
    assert result["run"]["command"].startswith("vicinal fleet ")
    assert (tmp_path / "fleet").stat().st_mode & 0o077 == 0 and "look into" not in err
    # Each of them had a message of each kind.
    for node in range(3):
        log = (tmp_path / "fleet" / f"node-{node}.log").read_text()
        assert "train.install" in log and "query.recommend" in log
    assert marked_processes(mark) == set()
    assert leftovers(scratch) == []


@pytest.mark.slow
def test_a_node_that_dies_ends_the_run_at_once(mark: str, scratch: Path, tmp_path: Path) -> None:
    process = start(tmp_path, mark, "--nodes", "2")
    assert until((tmp_path / "fleet" / "flower.log").exists, seconds=200)
    for pid in node_pid(mark, 1):
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Flower's node-1 ended" in err.splitlines()[-1]
    assert marked_processes(mark) == set()
    assert leftovers(scratch) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_fleet_leaves_nothing(
    number: signal.Signals, mark: str, scratch: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, mark, "--nodes", "2")
    assert until(lambda: len(list(node_pid(mark, 1))) > 0, seconds=200)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.rstrip().endswith("vicinal: interrupted")
    assert marked_processes(mark) == set()
    assert leftovers(scratch) == []


@pytest.mark.slow
def test_a_fleet_whose_driver_is_killed_leaves_nothing(
    mark: str, scratch: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, mark, "--nodes", "1")
    assert until(lambda: len(list(node_pid(mark, 0))) > 0, seconds=200)
    process.kill()
    process.communicate(timeout=60)
    assert until(lambda: not marked_processes(mark) and not leftovers(scratch), seconds=60)


@pytest.mark.parametrize("name", ["hits", "user_hits", "liked_hits", "eligible", "users", "liked"])
def test_any_other_count_is_told(name: str) -> None:
    counts = json.loads(json.dumps(asdict(COUNTS)))
    require_equal({"counts": counts}, COUNTS)
    wrong = [9, 9] if isinstance(counts[name], list) else counts[name] + 1
    with pytest.raises(VicinalError, match=rf"tally is not.* {name} .*, not "):
        require_equal({"counts": {**counts, name: wrong}}, COUNTS)


def test_a_node_is_told_its_partition() -> None:
    assert node_config(2, 3, Path("/a b/2-of-3.safetensors")) == (
        'partition-id=2 num-partitions=3 device-ratings="/a b/2-of-3.safetensors"'
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fleet", "--nodes", "2", "--report-privacy", "secagg"], "secagg: 2 clients"),
        (["fleet", "--report-privacy", "secag"], "report privacy 'secag': write none, secagg"),
        (["simulate", "--clients", "2", "--report-privacy", "secagg"], "secagg: 2 clients"),
        (["simulate", "--rounds", "2", "--report-privacy", "local:1"], "local: every round would"),
        (
            ["simulate", "--rounds", "2", "--in-process", "--report-privacy", "secagg"],
            "--in-process sends no reports",
        ),
    ],
)
def test_reports_that_cannot_be_are_refused_before_anything_is_loaded(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sims.evaluation.experiment.load_dataset", None)
    assert run(arguments) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
