"""What trackers are told: which keys of results are settings, which metrics, and their names."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from sims.cli import run
from sims.evaluation import keys
from sims.evaluation.study import Study, evaluate
from sims.fleet.report import fleet_json
from sims.grid.results import add_run
from sims.latency import report as latency
from sims.latency.plan import plan_named
from sims.recorded import commit, recorded
from sims.tracking.of_grid import cell_run, grid_id, grid_runs
from sims.tracking.results import KINDS, runs_in, runs_of
from sims.tracking.runs import Metric, TrackedRun, curves, metrics_of, parameters_of, safe, unused
from tests.support import fleets
from tests.support.grid_results import filled, result
from tests.support.latency_results import results_of

SMALL = Study("synthetic:60x90", attack="average", k=9, min_support=2, steps=2, list_length=9)
ROOT = Path(__file__).resolve().parents[3]
# What MLflow takes for a name.
NAME = re.compile(r"[\w\-. :/]{1,250}")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=8), part, max_size=3)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = tmp_path_factory.mktemp("store")
    told = {**evaluate(SMALL, store, processes=1).to_json(), "run": recorded()}
    loaded: dict[str, Any] = json.loads(json.dumps(told))
    return loaded


def values(one: TrackedRun) -> dict[str, float]:
    """Of metrics without steps."""
    return {metric.name: metric.value for metric in one.metrics}


def test_an_evaluation_is_its_settings_and_its_metrics(evaluation: dict[str, Any]) -> None:
    (one,) = runs_of(evaluation, made=0.0)
    assert {name for name in keys.ASKED if evaluation[name] != ""} <= set(one.parameters)
    assert one.parameters["targets"] == " ".join(map(str, evaluation["targets"]))
    found = values(one)
    for metric in keys.METRICS | keys.WHOLE:
        for condition in keys.CONDITIONS:
            value = evaluation[metric].get(condition)
            assert found.get(f"{metric}.{condition}") == value
    low, high = evaluation["intervals"]["accuracy"]["defended"]
    name = "intervals.accuracy.defended"
    assert (found[f"{name}.low"], found[f"{name}.high"]) == (low, high)
    assert found["baselines.ease.accuracy"] == evaluation["baselines"]["ease"]["accuracy"]
    assert not set(found) & set(one.parameters)
    assert one.tags["command"] == evaluation["run"]["command"]
    assert one.tags["version.numpy"] == evaluation["run"]["versions"]["numpy"]
    assert json.loads(one.files["results.json"]) == evaluation
    assert one.files["report.html"].startswith(b"<!doctype html>")
    assert one.files["before-and-after.png"].startswith(b"\x89PNG")


def test_the_same_results_have_the_same_key_and_others_another() -> None:
    told: dict[str, Any] = {"figures": {"mu": {"mean": 0.5}}, "goals": {}, "missed": []}
    told |= {"run": {"made": "2030-01-01T00:00:00+00:00"}, "seed": 3}
    (one,), (same,) = runs_of(told, made=0.0), runs_of(told, made=9.0)
    assert (one.key, one.digest, one.made) == (same.key, same.digest, same.made)
    (other,) = runs_of({**told, "run": {"made": "2031-01-01T00:00:00+00:00"}}, made=0.0)
    assert other.key != one.key and other.made > one.made
    (undated,) = runs_of({**told, "run": {"made": "soon"}}, made=9.0)
    assert undated.made == 9.0


def test_a_table_is_a_curve_for_each_of_its_columns() -> None:
    rows = [{"form": "any", "fakes": step, "pairs": step / 10, "none": None} for step in (1, 5)]
    found = curves(rows, name=lambda row: str(row["form"]), step="fakes", skip=("form",))
    assert list(found) == [Metric("pairs/any", 0.1, 1), Metric("pairs/any", 0.5, 5)]


def test_certificates_rounds_and_audits_are_known_by_their_keys(tmp_path: Path) -> None:
    file = tmp_path / "certificate.json"
    words = ["certify", "--dataset", "synthetic:60x90", "--assume-fakes", "3%,10%"]
    assert run([*words, "--fakes", "1,3", "--json", str(file)]) == 0
    (one,) = runs_in(file)
    told = json.loads(file.read_text())
    points = {(metric.name, metric.step): metric.value for metric in one.metrics}
    for row in told["rows"]:
        name = f"pairs/{row['form']} assumed {row['assumed_fakes']:g}"
        assert points[name, row["fakes"]] == row["pairs"]
    assert one.parameters["accounts"] == 60 and one.parameters["what"] == "certify"
    for kind, of in KINDS.items():
        assert [name for name, one in KINDS.items() if {*of.has} >= {*one.has}] == [kind]


def test_a_laboratory_is_a_run_with_a_run_for_each_setting() -> None:
    plan = plan_named("quick", book=True, datasets=["synthetic:40x60"], models=["mf"])
    plan = dataclasses.replace(plan, blocks=(dataclasses.replace(plan.blocks[0], cold=True),))
    told = latency.as_json(plan, latency.setting_reports(plan, results_of(plan), interval=600))
    whole, *others = runs_of(told, made=5.0)
    assert whole.parameters["machine.cores"] == told["machine"]["cores"]
    assert len(others) == len(told["settings"]) and len({one.key for one in others}) == len(others)
    for setting, one in zip(told["settings"], others, strict=True):
        points = {(metric.name, metric.step): metric.value for metric in one.metrics}
        assert points["processor_ratio", 0] == setting["processor_ratio"]
        rows = setting["measured"]
        rates = sorted(row["rate"] for row in rows if row["side"] == "server")
        of = next(row for row in rows if row["side"] == "server" and row["rate"] == rates[-1])
        name = f"server {of['network']} {of['share']}"
        here = [row for row in rows if (row["side"], row["network"]) == ("server", of["network"])]
        name = next(n for n, _ in points if n.startswith(f"measured.ms.p50/{name}"))
        curve = [points[name, step] for step in range(len(here))]
        assert curve == [row["ms"]["p50"] for row in sorted(here, key=lambda row: row["rate"])]


def test_a_fleet_and_an_audit(tmp_path: Path) -> None:
    fleet = fleets.make_fleet(tmp_path)
    _, result = fleets.run(fleets.write_files(tmp_path, fleet), {})
    told = fleet_json(fleet.prepared, result, "rvd")
    (one,) = runs_of(told, made=5.0)
    found = values(one)
    assert found["accuracy.defended"] == told["accuracy"]["defended"]
    assert found["bytes.down"] == told["bytes"]["down"]
    assert one.parameters["clients"] == told["clients"] and one.parameters["what"] == "simulate"
    file = tmp_path / "audit.json"
    words = ["audit", "--dataset", "synthetic:60x80", "--k", "5", "--splits", "1", "--json"]
    few = ["--accounts", "5", "--queries", "20", "--store", str(tmp_path / "store")]
    assert run([*words, str(file), *few]) == 1
    told = json.loads(file.read_text())
    (one,) = runs_in(file)
    found = values(one)
    for name, figure in told["figures"].items():
        assert found.get(f"figures.{name}.mean") == figure["mean"]
        assert found.get(f"figures.{name}.error") == figure["error"]
    assert one.parameters["goals.auc"] == told["goals"]["auc"]
    assert one.tags["command"] == told["run"]["command"]


def test_a_grid_is_a_run_with_a_run_for_each_cell(tmp_path: Path) -> None:
    cells = [
        result(seed=seed, attack=attack, accuracy=accuracy)
        for attack, seed, accuracy in [("aush", 0, 0.2), ("aush", 1, 0.4), ("pga", 0, 0.5)]
    ]
    broken = result(seed=2, attack="pga", error="lost <b>")
    filled(tmp_path, [*cells, broken])
    add_run(tmp_path, seconds=3, processes=1, command="vicinal grid x.toml")
    whole, *others = grid_runs(tmp_path, None)
    assert (
        whole.parameters["attacks"] == "aush pga" and whole.tags["command"] == "vicinal grid x.toml"
    )
    found = values(whole)
    assert (found["cells"], found["cells.failed"], found["seconds"]) == (4, 1, 3)
    group = safe(" ".join(["ml-100k", "mf", "aush", cells[0].label]))
    assert found[f"accuracy.defended/{group}"] == pytest.approx(0.3)
    # Two seeds: their difference / 2.
    assert found[f"accuracy.defended.error/{group}"] == pytest.approx(0.1)
    assert len(others) == 4 and len({one.key for one in others}) == 4
    (failed,) = (one for one in others if one.error)
    assert failed.metrics == () and "users" not in failed.parameters
    assert {one.parameters["seed"] for one in others} == {0, 1, 2}
    assert whole.files["report.html"] and whole.files["scatter-1.png"].startswith(b"\x89PNG")


def test_a_grid_is_known_by_its_folder_and_a_cell_by_its_file(tmp_path: Path) -> None:
    folder, other = filled(tmp_path / "a", [result()]), filled(tmp_path / "b", [result()])
    assert grid_id(folder) == grid_id(folder) != grid_id(other)
    cells = [cell_run(path / "cells" / "0.json", result(), {}, 1.0) for path in (folder, other)]
    assert cells[0] == cells[1]
    measured_again = cell_run(folder / "cells" / "0.json", result(accuracy=0.9), {}, 2.0)
    assert measured_again.key == cells[0].key and measured_again.digest != cells[0].digest
    (folder / "track-id").write_text("zz")
    with pytest.raises(InputError, match="damaged"):
        grid_id(folder)


def test_a_damaged_name_of_a_grid_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    config, folder = tmp_path / "g.toml", tmp_path / "grid"
    config.write_text('datasets = ["synthetic:60x90"]\nmodels = ["mf"]\nattacks = ["average"]\n')
    folder.mkdir()
    (folder / "track-id").write_text("zz")
    words = ["grid", str(config), "--folder", str(folder)]
    assert run([*words, "--track", f"tensorboard:{tmp_path / 'logs'}"]) == 2
    assert "damaged; delete it" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["track-id"]


def test_runs_within_a_run_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    folder, logs = filled(tmp_path / "grid", [result(), result(seed=1)]), tmp_path / "a log"
    assert run(["track", str(folder), f"tensorboard:{logs}"]) == 0
    error = capsys.readouterr().err
    assert "runs written: done (2)" in error
    assert f"(tensorboard --logdir '{logs}')" in error


@given(JSON, st.sampled_from(sorted(KINDS)))
def test_whatever_a_file_holds_gives_names_that_trackers_take(part: Any, kind: str) -> None:
    told = dict.fromkeys(KINDS[kind].has, part) | {"a/b%": part, "..": 3, "seed": part, "x": part}
    if KINDS[kind].drawn is None:
        try:
            runs = runs_of(told, made=1.0)
        except InputError:
            return
        metrics = [metric for one in runs for metric in one.metrics]
        parameters = [pair for one in runs for pair in one.parameters.items()]
        assert all(len({(m.name, m.step) for m in one.metrics}) == len(one.metrics) for one in runs)
    else:
        metrics, parameters = (
            list(metrics_of(told, ["seed"])),
            list(parameters_of(told, told).items()),
        )
    for metric in metrics:
        assert NAME.fullmatch(metric.name) and not metric.name.startswith(("/", ".."))
        assert isinstance(metric.value, float)
    for name, value in parameters:
        assert NAME.fullmatch(name) and len(str(value)) <= 6000 and value != ""


def test_names_that_become_one_are_kept_apart_and_numbers_beyond_floats_left_out() -> None:
    told = {"a%": 1, "a#": 2, "a$": math.nan, "big": 10**400, "flag": True, "long": [1] * 51}
    found = metrics_of(told, [])
    assert [(one.name, one.value) for one in found[:2]] == [("a_", 1.0), ("a__2", 2.0)]
    assert math.isnan(found[2].value) and len(found) == 3
    odd = {"a%": 1, "a#": 2, "a__2": 3, "..": {"b": 4}}
    assert parameters_of(odd, odd) == {"a_": 1, "a__2": 2, "a__2_2": 3, "b": 4}
    assert [(one.name, one.value) for one in metrics_of(odd, [])] == [
        *(("a_", 1.0), ("a__2", 2.0), ("a__2_2", 3.0), ("b", 4.0))
    ]


def test_rows_of_one_name_and_step_are_told_apart_without_trying_every_number() -> None:
    row = {"form": "any", "assumed_fakes": 0.1, "fakes": 1, "pairs": 1}
    (one,) = runs_of({"rows": [row] * 300, "assumed": [], "unpopular": 1}, made=1.0)
    assert len({metric.name for metric in one.metrics}) == 300

    class Counted(dict[str, int]):
        asked = 0

        def __contains__(self, name: object) -> bool:
            self.asked += 1
            return super().__contains__(name)

    used = Counted()
    assert [unused("a", used) for _ in range(300)] == ["a", *(f"a_{at}" for at in range(2, 301))]
    assert used.asked < 3 * 300


def test_what_is_nested_too_deeply_is_damaged() -> None:
    deep: dict[str, Any] = {}
    for _ in range(sys.getrecursionlimit()):
        deep = {"a": deep}
    with pytest.raises(InputError, match="damaged"):
        runs_of({"figures": deep, "goals": {}, "missed": []}, made=1.0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "no results"),
        ('{"a": 1}', "no results that this version knows"),
        ('{"rows": 1, "assumed": 2, "unpopular": 3}', "damaged"),
        (
            '{"rows": [{"form": "any", "assumed_fakes": 0.1, "fakes": 9223372036854775808, '
            '"pairs": 1}], "assumed": [], "unpopular": 3}',
            "damaged",
        ),
        ('{"hit_ratio": 1, "accuracy": 2, "intervals": 3, "baselines": 4}', "damaged"),
    ],
)
def test_what_is_no_result_is_one_line(
    content: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    pytest.importorskip("tensorboard")
    assert run(["track", str(path), f"tensorboard:{tmp_path / 'logs'}"]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert list((tmp_path / "logs").iterdir()) == []


def test_a_checkout_has_a_commit() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert commit() in (head, f"{head}+") and recorded()["git"] == commit()
