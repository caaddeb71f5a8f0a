"""Choice and table of federated trainings: means by hand, and a small run of each."""

from dataclasses import replace
from pathlib import Path

import pytest

from server.federated.settings import Federated
from sims.attacks import REPORTED_TARGETS
from sims.evaluation.study import Study, evaluate
from sims.federated.model import FleetTraining
from sims.selection import federated
from sims.selection.federated import (
    CANDIDATES,
    Row,
    baseline_row,
    kept_row,
    lines,
    row_of,
    run_of,
)


def test_the_default_was_tried() -> None:
    tried = [Federated(**changes) for changes in CANDIDATES]
    assert Federated() in tried
    assert len(set(map(repr, tried))) >= len(tried) - 1


def test_the_table_has_means_over_seeds() -> None:
    def row(start: float) -> Row:
        return Row(hit_ratio=(start, start / 2), accuracy=(0.5, 0.5))

    rows = [("median", "clean"), ("median", "none"), ("median", "pieck-uea"), ("", "ease")]
    ease = Row(hit_ratio=(0.1,), accuracy=(0.5,))
    found = [row(0.1), row(0.2), row(0.3), ease, row(0.3), row(0.4), row(0.5), ease]
    same = "0.500 ± 0.000"
    assert lines(rows, found)[2:] == [
        f"| median | clean | 0.200 ± 0.141 | 0.100 ± 0.071 | {same} | {same} |",
        f"| median | ratings alone | 0.300 ± 0.141 | 0.150 ± 0.071 | {same} | {same} |",
        f"| median | pieck-uea | 0.400 ± 0.141 | 0.200 ± 0.071 | {same} | {same} |",
        f"| ease | ratings alone | 0.100 ± 0.000 |  | {same} |  |",
    ]
    assert lines(rows, found[:4])[2] == "| median | clean | 0.100 | 0.050 | 0.500 | 0.500 |"


STUDY = Study(
    dataset="synthetic:100x150",
    users=40,
    list_length=10,
    fleet=FleetTraining(Federated(rounds=12, unrated=0.0)),
)


def test_rows_are_those_of_evaluate(tmp_path: Path) -> None:
    for name in ("none", "pieck-uea"):
        fleet = FleetTraining(Federated(rounds=12, unrated=0.0, aggregate="median"), name)
        told = evaluate(replace(STUDY, fleet=fleet), tmp_path, processes=1).to_json()
        row = row_of(STUDY, "median", name)
        for key, found in (("hit_ratio", row.hit_ratio), ("accuracy", row.accuracy)):
            assert found == tuple(told[key][each] for each in ("undefended", "defended"))
        clean = row_of(STUDY, "median", "clean")
        assert clean.accuracy == tuple(told["accuracy"][c] for c in ("clean", "clean_defended"))
        beside = baseline_row(STUDY, "ease")
        assert beside.accuracy == (told["baselines"]["ease"]["accuracy"],)


def test_a_row_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept_row(tmp_path, STUDY, "median", "none")
    other = kept_row(tmp_path, STUDY, "fedavg", "none")
    assert first != other and len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(federated, "row_of", None)
    assert kept_row(tmp_path, STUDY, "median", "none") == first
    for path in tmp_path.iterdir():
        path.write_text("{", encoding="utf-8")  # torn
    monkeypatch.undo()
    assert kept_row(tmp_path, STUDY, "median", "none") == first


def test_a_candidate_on_validation_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPORTED_TARGETS, "synthetic:100x150", ())
    run = run_of("synthetic:100x150", 0, {"rounds": 3}, 20)
    assert 0 <= run.hit_ratio <= 1
    assert run.relative > 0
    assert federated.CANDIDATES
