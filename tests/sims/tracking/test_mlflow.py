"""A real MLflow server with SQLite behind it, and what its REST API tells afterwards."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sims.cli import run
from sims.grid.results import read_results
from sims.tracking.places import tracked, written
from sims.tracking.runs import Metric
from tests.sims.tracking.test_tensorboard import EVALUATE, ROUNDS, hostile
from tests.support.grid_results import filled, result
from tests.support.trackers import Relay, asked, fetched, mlflow_server, pairs_of, runs_on

pytest.importorskip("mlflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GRID = """
title = "a % grid/<b>"
datasets = ["synthetic:60x90"]
models = ["mf"]
attacks = ["average"]
presets = ["vicinal"]
neighbors = [9]
seeds = [0, 1]
users = 20
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture
def experiment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """One of its own for each test. Whatever is written beside what was asked lies in tmp_path."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    return str(request.node.name)


def artifact(server: str, run_id: str, name: str) -> bytes:
    return fetched(f"{server}/get-artifact?run_uuid={run_id}&path={name}")


def test_an_evaluation(server: str, experiment: str, tmp_path: Path) -> None:
    file = tmp_path / "e.json"
    words = [*EVALUATE, "--store", str(tmp_path / "store"), "--processes", "1"]
    assert run([*words, "--json", str(file), "--track", f"mlflow:{server}/"]) == 0
    # It is there already.
    assert run(["track", str(file), f"mlflow:{server}"]) == 0
    (one,) = runs_on(server, experiment)
    told = json.loads(file.read_text())
    parameters, metrics, tags = (pairs_of(one, kind) for kind in ("params", "metrics", "tags"))
    for name in ("dataset", "model", "attack", "defense", "seed", "k", "list_length", "users"):
        assert parameters[name] == str(told[name])
    for name in ("hit_ratio", "accuracy", "ndcg_10"):
        assert metrics[f"{name}.defended"] == told[name]["defended"]
    low, high = told["intervals"]["accuracy"]["defended"]
    assert metrics["intervals.accuracy.defended.low"] == low
    assert metrics["intervals.accuracy.defended.high"] == high
    assert tags["vicinal.command"] == tags["mlflow.source.name"] == told["run"]["command"]
    assert tags["vicinal.version.torch"] == told["run"]["versions"]["torch"]
    assert one["info"]["status"] == "FINISHED"
    run_id = one["info"]["run_id"]
    files = asked(server, "/api/2.0/mlflow/artifacts/list", run_id=run_id)["files"]
    assert [one["path"] for one in files] == [
        *("before-and-after.png", "report.html", "results.json")
    ]
    assert json.loads(artifact(server, run_id, "results.json")) == told
    assert artifact(server, run_id, "report.html").startswith(b"<!doctype html>")


def test_rounds_are_steps(server: str, experiment: str, tmp_path: Path) -> None:
    words = [*ROUNDS, "--in-process", "--folder", str(tmp_path / "rounds"), "--k", "9"]
    words += ["--list-length", "9", "--store", str(tmp_path / "store"), "--processes", "1"]
    assert run([*words, "--track", f"mlflow:{server}"]) == 0
    (one,) = runs_on(server, experiment)
    found = asked(
        server,
        "/api/2.0/mlflow/metrics/get-history",
        run_id=one["info"]["run_id"],
        metric_key="hit_ratio/undefended",
    )["metrics"]
    history = json.loads((tmp_path / "rounds" / "history.json").read_text())
    assert [(point["step"], point["value"]) for point in found] == [
        (point["round"], point["hit_ratio"])
        for point in history["rounds"]
        if point["condition"] == "undefended"
    ]
    assert len(found) == 3


def test_a_grid_that_is_gone_on_with_is_written_once(
    server: str, experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = tmp_path / "g.toml", tmp_path / "grid"
    config.write_text(GRID)
    words = ["grid", str(config), "--folder", str(folder), "--processes", "1"]
    # The server goes away amid the second cell, after its run was made.
    with Relay(server, b"/runs/log-batch", after=3) as relay:
        assert run([*words, "--track", f"mlflow:{relay.address}"]) == 0
        assert relay.gone
    said = capsys.readouterr().err
    assert "The grid goes on" in said and f"`vicinal track {folder} mlflow:" in said
    before = runs_on(server, experiment)
    assert {one["info"]["status"] for one in before} == {"RUNNING", "FINISHED"}
    results = read_results(folder)
    assert len(results) == 4 and not any(one.error for one in results)
    # Two cells are lost, and measured again by a run that is told of the server.
    for path in sorted((folder / "cells").iterdir())[:2]:
        path.unlink()
    assert run([*words, "--track", f"mlflow:{server}"]) == 0
    assert run(["track", str(folder), f"mlflow:{server}"]) == 0
    runs = runs_on(server, experiment)
    (whole,) = (one for one in runs if "mlflow.parentRunId" not in pairs_of(one, "tags"))
    cells = [one for one in runs if one is not whole]
    assert {pairs_of(one, "tags")["mlflow.parentRunId"] for one in cells} == {
        whole["info"]["run_id"]
    }
    assert len(cells) == 4 and {one["info"]["status"] for one in runs} == {"FINISHED"}
    told = Counter(
        (int(pairs_of(one, "params")["seed"]), pairs_of(one, "params")["defense"]) for one in cells
    )
    assert told == Counter((one.seed, one.defense) for one in results)
    for one in cells:
        asked_for = pairs_of(one, "params")
        (same,) = (
            each
            for each in results
            if (str(each.seed), each.defense) == (asked_for["seed"], asked_for["defense"])
        )
        assert pairs_of(one, "metrics")["accuracy.defended"] == same.accuracy["defended"]
    assert pairs_of(whole, "metrics")["cells"] == 4
    assert whole["info"]["run_name"] == "grid a % grid/<b>"
    assert artifact(server, whole["info"]["run_id"], "report.html").startswith(b"<!doctype")


def test_a_server_that_goes_away_loses_no_results(
    server: str, experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["certify", "--dataset", "synthetic:60x90"]
    with Relay(server, b"/runs/create") as relay:
        assert run([*words, "--track", f"mlflow:{relay.address}"]) == 0
    out, error = capsys.readouterr()
    assert "What fakes cannot promote" in out and runs_on(server, experiment) == []
    (file,) = (tmp_path / "runs" / "untracked").iterdir()
    relative = file.relative_to(tmp_path)
    assert f"`vicinal track {relative} mlflow:{relay.address}` writes them there" in error
    assert run(["track", str(relative), f"mlflow:{server}"]) == 0
    (one,) = runs_on(server, experiment)
    assert pairs_of(one, "params")["what"] == "certify"


def test_a_cell_that_failed_and_was_measured_again_is_the_same_run(
    server: str, experiment: str, tmp_path: Path
) -> None:
    folder = filled(tmp_path / "grid", [result(error="lost"), result(seed=1)])
    assert run(["track", str(folder), f"mlflow:{server}"]) == 0
    status = Counter(one["info"]["status"] for one in runs_on(server, experiment))
    assert status == {"FINISHED": 2, "FAILED": 1}
    filled(folder, [result(accuracy=0.7), result(seed=1)])
    assert run(["track", str(folder), f"mlflow:{server}"]) == 0
    runs = runs_on(server, experiment)
    assert Counter(one["info"]["status"] for one in runs) == {"FINISHED": 3}
    (mended,) = (one for one in runs if pairs_of(one, "params").get("seed") == "0")
    assert pairs_of(mended, "metrics")["accuracy.defended"] == 0.7


def test_odd_names_and_numbers(server: str, experiment: str) -> None:
    (tracker,) = tracked([f"mlflow:{server}"]).trackers
    many = tuple(Metric(f"m{at}", at, step=at % 7) for at in range(2500))
    one = hostile("ab" * 16, parameters={f"p{at}": "%/<b>" for at in range(250)}, metrics=many)
    written(tracker, [hostile("cd" * 16), one])
    runs = runs_on(server, experiment)
    odd, large = sorted(runs, key=lambda each: len(each["data"]["metrics"]))
    assert pairs_of(odd, "params") == {
        "long": "x" * 6000,
        "n": "3",
        "html": "<script>alert(1)</script> | `a`",
    }
    metrics = pairs_of(odd, "metrics")
    assert metrics["low"] == 1e-30 and math.isnan(float(metrics["nan"]))
    # MLflow keeps the largest float for what is infinite.
    assert float(metrics["inf"]) > 1e300
    assert odd["info"]["run_name"] == "../../a%b/c <script>alert(1)</script>"
    assert pairs_of(large, "metrics") == {each.name: each.value for each in many}
    assert len(pairs_of(large, "params")) == 250


def test_an_experiment_that_was_deleted_is_told_before_the_work(
    server: str, experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(tracked([f"mlflow:{server}"]).trackers) == 1
    api = f"{server}/api/2.0/mlflow/experiments"
    found: Any = asked(api, "/get-by-name", experiment_name=experiment)
    fetched(f"{api}/delete", {"experiment_id": found["experiment"]["experiment_id"]})
    words = [*EVALUATE, "--store", str(tmp_path / "store"), "--track", f"mlflow:{server}"]
    assert run(words) == 2
    assert "is deleted: restore it" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
