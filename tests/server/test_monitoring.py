"""What configs/monitoring asks Prometheus for is what a server tells."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from common.ranking import Counts
from server.gateway.history import SURVEYED
from server.metrics import Metrics
from server.workers.frames import CALLS, Status, WorkerResult
from tests.support.scenes import WATCHED
from tests.support.serving import make_scene

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "monitoring"
NAME = re.compile(r"\b(?:vicinal|process)_[a-z_]+\b")
SELECTOR = re.compile(r"\b((?:vicinal|process)_[a-z_]+)\{([^}]*)\}")
MATCHER = re.compile(r'([a-z_]+)\s*=\s*"([^"]*)"')
BY = re.compile(r"\b(?:by|ignoring) \(([a-z_, ]+)\)")
Samples = dict[str, list[dict[str, str]]]


def expressions() -> dict[str, list[str]]:
    """Of each file."""
    board = json.loads((FOLDER / "grafana.json").read_text())
    # The rules are YAML, of which this test needs no more than where expressions begin and end.
    rules = (FOLDER / "alerts.yml").read_text()
    found = re.findall(r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", rules, re.DOTALL)
    return {
        "grafana.json": [one["expr"] for panel in board["panels"] for one in panel["targets"]],
        "alerts.yml": [" ".join(each.split()) for each in found],
    }


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Labels of every sample of a server to which everything has happened, by name."""
    scene = make_scene(tmp_path_factory.mktemp("monitoring"))
    description = scene.description()
    metrics = Metrics(description)
    metrics.watch(cast(Any, SimpleNamespace(alive=1, lost=0, depth=0)))
    counts = Counts((1,) * len(WATCHED), (0,) * len(WATCHED), 1, 1)
    with scene.tally() as tally:
        for number in range(100):
            tally.add(description.version, "paper", f"{number}", counts)
        metrics.watch_tally(tally, lambda _version: True)
        survey = dict.fromkeys(SURVEYED, 0.0)
        metrics.watch_surveys(lambda: {description.version: {"paper": survey}})
        for call in CALLS:
            metrics.rejected(call)
            metrics.sent(call, 1)
            metrics.answered(call, WorkerResult(Status.ANSWERED, b"", (1.0, 1.0, 1.0), 1.0))
            for status in ("OK", "INTERNAL", "RESOURCE_EXHAUSTED"):
                metrics.ended(call, status, 0.1)
        metrics.reported(counts)
        metrics.report_refused("disk")
        for how in ("done", "failed", "away"):
            metrics.brought_up_to_date("retrain", how)
        samples: Samples = {}
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append(dict(sample.labels))
    return samples


def wrong(expression: str, told: Samples) -> list[str]:
    """What an expression names and a server does not tell."""
    names = NAME.findall(expression)
    bad = [name for name in names if name not in told]
    labels = {label for name in names for each in told.get(name, ()) for label in each}
    for name, inside in SELECTOR.findall(expression):
        wanted = MATCHER.findall(inside)
        if not any(
            all(each.get(label) == value for label, value in wanted) for each in told.get(name, ())
        ):
            bad.append(f"{name}{{{inside}}}")
    for listed in BY.findall(expression):
        bad += [one for one in map(str.strip, listed.split(",")) if one not in labels]
    return bad


@pytest.mark.parametrize("file", ["grafana.json", "alerts.yml"])
def test_every_metric_that_is_asked_for_exists(file: str, told: Samples) -> None:
    asked = expressions()[file]
    assert len(asked) >= 10
    assert {each: wrong(each, told) for each in asked if wrong(each, told)} == {}


def test_every_rule_has_its_expression() -> None:
    text = (FOLDER / "alerts.yml").read_text()
    assert text.count("- alert:") == len(expressions()["alerts.yml"])


def test_what_a_server_does_not_tell_is_seen(told: Samples) -> None:
    assert wrong("rate(vicinal_request_total[5m])", told) == ["vicinal_request_total"]
    asked = 'vicinal_survey{what="newcomers"}'
    assert wrong(asked, told) == [asked]
    assert wrong("sum by (stat) (vicinal_requests_total)", told) == ["stat"]


def test_every_metric_of_a_server_is_on_the_board_or_of_the_process(told: Samples) -> None:
    named = {name for each in expressions().values() for one in each for name in NAME.findall(one)}
    ours = {name for name in told if name.startswith("vicinal_") and not name.endswith("_created")}
    ours -= {"vicinal_stage_seconds_count", "vicinal_stage_seconds_sum", "vicinal_reported"}
    assert ours - named == set()
