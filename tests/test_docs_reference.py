"""docs/reference.md is what the code says, and results have the keys that it explains."""

import ast
import dataclasses
import json
import re
from pathlib import Path

import grpc
import pytest
from typer.core import TyperGroup

from client.run import DeviceRun, answer_users
from client.stores.ratings import write_local_ratings
from common.ranking import Counts
from server.data.doubts import Doubt
from sims import reference
from sims.cli import COMMANDS, run
from sims.commands import data, device_report
from sims.commands.help import command_of
from sims.evaluation import keys
from sims.evaluation.baselines import USUAL
from sims.evaluation.metrics import METRICS
from sims.evaluation.report_table import TITLES
from sims.evaluation.scores import WITHOUT_INTERVAL
from sims.evaluation.study import Study, evaluate
from sims.fleet.history import History, Point
from sims.fleet.report import fleet_json, fleet_summary
from sims.fleet.scenario import Scenario
from sims.grid.results import GridRun, result_of
from sims.latency import report as latency
from sims.latency.plan import plan_named
from tests.support import fleets
from tests.support.latency_results import results_of
from tests.support.result_keys import differences, paths
from tests.support.serving import USERS, Endpoint, make_scene

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference.md"
SMALL = Study("synthetic:80x120", attack="average", k=10, min_support=2, steps=2)
READ = "VICINAL_[A-Z]+|MLFLOW_TRACKING_URI|MLFLOW_EXPERIMENT_NAME"
# Marks of processes and names of loggers, which nobody is to set.
INTERNAL = {"VICINAL_RUN", "VICINAL_RAY", "VICINAL_SOURCES"}


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_command_prints(text: str) -> None:
    assert text == reference.page(), "python -m sims.reference > docs/reference.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_on_the_page(name: str, text: str) -> None:
    command = command_of(COMMANDS[name].module)
    group = isinstance(command, TyperGroup)
    parts = command.commands if group else {name: command}
    for part, one in parts.items():
        title = f"### vicinal {name} {part}\n" if group else f"### vicinal {name}\n"
        section = text.split(title, 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]
        expected = {spelling for each in one.params for spelling in each.opts if spelling[0] == "-"}
        first = {row.split("|")[1] for row in section.splitlines() if row.startswith("| `-")}
        assert {word for cell in first for word in re.findall(r"`([^`]+)`", cell)} == expected


def test_an_evaluation_has_the_keys(tmp_path: Path) -> None:
    result = evaluate(SMALL, tmp_path / "store", processes=1).to_json()
    names = {"CONDITION": keys.CONDITIONS, "METRIC": keys.METRICS, "BASELINE": USUAL}
    assert differences(result, keys.EVALUATION, **names) == set()
    assert set(METRICS) == set(keys.METRICS) and set(WITHOUT_INTERVAL) == set(keys.WHOLE)
    assert set(TITLES) == set(keys.CONDITIONS)
    cell = result_of(SMALL.cell(), result)
    assert differences(cell.model_dump(), keys.GRID, **names) == set()
    columns = {path.replace(".", "_") for path in paths(cell.model_dump())}
    assert set(cell.flat()) == columns


def test_a_run_of_a_grid_has_the_keys() -> None:
    assert all(field.description for field in GridRun.model_fields.values())


def test_a_fleet_has_the_keys(tmp_path: Path) -> None:
    fleet = fleets.make_fleet(tmp_path)
    # One of the clients never answers.
    files = fleets.write_files(tmp_path, fleet)
    _, result = fleets.run(files, {1007: lambda _message, _deliver: None})
    doubt = Doubt("constant", "every rating is 4")
    doubted = dataclasses.replace(fleet.prepared.dataset, doubts=(doubt,))
    prepared = dataclasses.replace(fleet.prepared, dataset=doubted)
    found = fleet_json(prepared, result, "rvd")
    assert found["warnings"] == [doubt.told()]
    assert list(fleet_summary(prepared, result))[-1] == "warning: every rating is 4"
    told = {**found, "warnings": []}
    assert differences(told, keys.FLEET, COUNT=keys.COUNTS) == set()


def test_devices_have_the_keys(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    write_local_ratings(tmp_path / "ratings", scene.local)
    with Endpoint(scene.service()) as endpoint:
        users = tuple(range(USERS))
        asked = DeviceRun(
            endpoint.address, tmp_path / "ratings", tmp_path / "device", "vicinal", users
        )
        found = device_report.device_json(answer_users(asked), "vicinal", show=2)
    assert differences(found, device_report.KEYS, COUNT=keys.COUNTS) == set()
    assert set(keys.COUNTS) == {field.name for field in dataclasses.fields(Counts)}


def test_the_laboratory_has_the_keys() -> None:
    plan = plan_named("quick", book=True, datasets=["synthetic:40x60"], models=["mf"])
    cold = dataclasses.replace(plan.blocks[0], cold=True)
    plan = dataclasses.replace(plan, blocks=(cold,))
    found = latency.as_json(plan, latency.setting_reports(plan, results_of(plan), interval=600))
    assert differences(found, latency.KEYS, SIDE=["server", "device"]) == set()


def test_a_description_has_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "describe", "synthetic:20x30", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    quantiles = ["min", "p25", "median", "p75", "p99", "max"]
    assert differences(found, data.KEYS, QUANTILE=quantiles) == set()


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def strings(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {node.value for node in nodes if isinstance(node.value, str)}


def test_every_variable_of_the_environment_is_on_the_page() -> None:
    read = set()
    for path in sources("common", "server", "client", "sims"):
        read |= {word for word in strings(path) if re.fullmatch(READ, word)}
    assert read - INTERNAL == set(reference.ENVIRONMENT)


def test_every_status_is_on_the_page() -> None:
    used = {
        name
        for path in sources("server", "client")
        for name in re.findall(r"StatusCode\.([A-Z_]+)", path.read_text(encoding="utf-8"))
    }
    assert used == set(reference.STATUSES)
    assert used <= {status.name for status in grpc.StatusCode}
    protocol = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = protocol.split("## Statuses")[1].split("\n## ")[0]
    assert set(re.findall(r"`([A-Z_]{4,})`", rows)) == used - {"OK"}


def test_a_key_that_is_not_explained_is_seen() -> None:
    assert differences({"a": {"b": 1}, "c": [{"d": 2}]}, ["a.NAME", "c[].d"], NAME=["b"]) == set()
    assert differences({"a": 1, "new": {"x": 2}}, ["a"]) == {"new.x"}
    assert differences({"a": 1}, ["a", "b"]) == {"b"}


def test_every_code_and_key_has_a_meaning() -> None:
    tables = (keys.EVALUATION, keys.FLEET, keys.GRID, keys.COUNTS, latency.KEYS, data.KEYS)
    assert all(all(table.values()) for table in tables)
    assert set(reference.EXIT_CODES) == {0, 1, 2, 130}


def test_a_history_has_the_keys() -> None:
    assert all(
        field.description
        for kind in (History, Point, Scenario)
        for field in kind.model_fields.values()
    )
