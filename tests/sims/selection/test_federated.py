"""Choice and table of federated trainings: means by hand, and a small run of each."""

import pytest

from server.federated.settings import Federated
from sims.evaluation.study import Study
from sims.federated.model import FleetTraining
from sims.selection import federated, presets
from sims.selection.federated import CANDIDATES, Row, lines, rows_of, run_of


def test_the_default_was_tried() -> None:
    tried = [Federated(**changes) for changes in CANDIDATES]
    assert Federated() in tried
    assert len(set(map(repr, tried))) >= len(tried) - 1


def test_the_table_has_means_over_seeds() -> None:
    def row(start: float) -> Row:
        values = tuple(start + place / 100 for place in range(4))
        return Row(values, tuple(value / 2 for value in values), (("ease", start, 0.5),))

    found = [[row(0.1), row(0.5)], [row(0.3), row(0.7)]]
    assert lines(["median"], ["none", "pieck-uea"], found, 2)[2:] == [
        "| median | clean | 0.200 | 0.220 | 0.100 | 0.110 |",
        "| median | ratings alone | 0.210 | 0.230 | 0.105 | 0.115 |",
        "| median | pieck-uea | 0.610 | 0.630 | 0.305 | 0.315 |",
        "| ease | ratings alone | 0.200 | | 0.500 | |",
    ]


def test_update_attacks_share_one_clean_model() -> None:
    fleet = FleetTraining(Federated(rounds=12, unrated=0.0))
    study = Study(
        dataset="synthetic:100x150",
        users=40,
        baselines=("popularity",),
        fleet=fleet,
        list_length=10,
    )
    first, second = rows_of(study, "fedavg", ["none", "pieck-uea"])
    assert (first.hit_ratio[0], first.accuracy[0]) == (second.hit_ratio[0], second.accuracy[0])
    assert first.hit_ratio[1] != second.hit_ratio[1]
    assert [name for name, _, _ in first.baselines] == ["popularity"]


def test_a_candidate_on_validation_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.REPORTED_TARGETS, "synthetic:100x150", ())
    run = run_of("synthetic:100x150", 0, {"rounds": 3}, 20)
    assert 0 <= run.hit_ratio <= 1
    assert run.relative > 0
    assert federated.CANDIDATES
