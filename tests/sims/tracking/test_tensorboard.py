"""Event files, read by a real TensorBoard and told over its HTTP."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sims.cli import run
from sims.tracking.places import tracked, written
from sims.tracking.runs import Metric, TrackedRun
from tests.support.grid_results import filled, result
from tests.support.trackers import asked, fetched, tensorboard_server

pytest.importorskip("tensorboard")
pytestmark = pytest.mark.slow

EVALUATE = ["evaluate", "--dataset", "synthetic:60x90", "--attack", "average", "--k", "9"]
ROUNDS = ["simulate", "--dataset", "synthetic:60x90", "--attack", "average", "--rounds", "3"]
ROUNDS += ["--clients", "6"]
HOSTILE = "../../a%b/c <script>alert(1)</script>"


def hostile(key: str, **more: Any) -> TrackedRun:
    """Names and values such as no tracker likes."""
    fields: dict[str, Any] = {
        "name": HOSTILE,
        "parameters": {"long": "x" * 6000, "n": 3, "html": "<script>alert(1)</script> | `a`"},
        "metrics": (Metric("nan", math.nan), Metric("inf", math.inf), Metric("low", 1e-30)),
        "tags": {"command": "vicinal <b>"},
        "made": 1.7e9,
    }
    return TrackedRun(key=key, **{**fields, **more})


def values(address: str, name: str, tag: str) -> list[tuple[int, Any]]:
    """Steps and values, as TensorBoard's page asks for them."""
    told = asked(address, "/data/plugin/scalars/scalars", run=name, tag=tag)
    return [(step, value) for _, step, value in told]


def test_tensorboard_shows_what_was_measured(tmp_path: Path) -> None:
    logs, file = tmp_path / "logs", tmp_path / "e.json"
    place = f"tensorboard:{logs}"
    common = ["--store", str(tmp_path / "store"), "--processes", "1"]
    assert run([*EVALUATE, *common, "--json", str(file), "--track", place]) == 0
    rounds = [*ROUNDS, "--in-process", "--folder", str(tmp_path / "rounds")]
    assert run([*rounds, *common, "--list-length", "9", "--k", "9", "--track", place]) == 0
    grid = filled(tmp_path / "grid", [result(), result(seed=1, accuracy=0.5)])
    assert run(["track", str(grid), place]) == 0
    (tracker,) = tracked([place]).trackers
    written(tracker, [hostile("ab" * 16), hostile("cd" * 16, name="100 % / inside")])
    told, history = (
        json.loads(file.read_text()),
        json.loads((tmp_path / "rounds" / "history.json").read_text()),
    )
    before = {path: path.stat().st_mtime_ns for path in logs.rglob("events*")}
    assert all(path.resolve().is_relative_to(logs.resolve()) for path in before)
    for again in (file, grid, tmp_path / "rounds"):
        assert run(["track", str(again), place]) == 0
    assert {path: path.stat().st_mtime_ns for path in logs.rglob("events*")} == before
    with tensorboard_server(logs, tmp_path) as address:
        runs = asked(address, "/data/runs")
        # The evaluation, rounds, a grid of two cells, and one hostile run within another.
        assert len(runs) == 7
        (evaluation,) = (one for one in runs if one.startswith("evaluate"))
        for metric in ("hit_ratio", "accuracy"):
            found = values(address, evaluation, f"{metric}.defended")
            assert found == [(0, pytest.approx(told[metric]["defended"], rel=1e-6))]
        (simulated,) = (one for one in runs if one.startswith("rounds"))
        wanted = [
            (point["round"], pytest.approx(point["accuracy"], rel=1e-6))
            for point in history["rounds"]
            if point["condition"] == "defended"
        ]
        assert values(address, simulated, "accuracy/defended") == wanted
        assert len(wanted) == 3
        whole, *_ = sorted((one for one in runs if one.startswith("grid")), key=len)
        cells = [one for one in runs if one.startswith(f"{whole}/")]
        assert len(cells) == 2
        accuracies = [values(address, one, "accuracy.defended")[0][1] for one in cells]
        assert sorted(accuracies) == [pytest.approx(0.3), pytest.approx(0.5)]
        assert values(address, whole, "cells") == [(0, 2.0)]
        (odd,) = (one for one in runs if "a-b-c" in one and "/" not in one)
        assert [
            str(one[0][1]).lower()
            for one in (values(address, odd, "nan"), values(address, odd, "inf"))
        ] == ["nan", "infinity"]
        assert values(address, odd, "low") == [(0, pytest.approx(1e-30))]
        texts = asked(address, "/data/plugin/text/text", run=odd, tag="asked")
        assert "<script" not in texts[0]["text"] and "&lt;script&gt;" in texts[0]["text"]
        (image,) = asked(
            address, "/data/plugin/images/images", run=evaluation, tag="before-and-after", sample=0
        )
        data = fetched(f"{address}/data/plugin/images/individualImage?{image['query']}")
        assert data.startswith(b"\x89PNG") and len(data) > 10_000


def test_a_run_that_says_more_takes_the_place_of_its_former_self(tmp_path: Path) -> None:
    (tracker,) = tracked([f"tensorboard:{tmp_path}"]).trackers
    before = tracker.write(hostile("ef" * 16))
    after = tracker.write(hostile("ef" * 16, metrics=(Metric("a", 1.0),), made=1.8e9))
    assert before == after
    (file,) = (tmp_path / after).iterdir()
    assert ".1800000000." in file.name
