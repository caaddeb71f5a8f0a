"""Options of baselines: what is tried, and that the command prints it best first."""

import os
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from common.ratings import RatingMatrix
from server.baselines import BASELINES, Scorer
from server.baselines.ease import PENALTY
from server.baselines.itemknn import NEIGHBORS as OF_ITEMS
from server.baselines.userknn import NEIGHBORS as OF_USERS
from server.training.ranking import Bpr, Ials, LightGcn
from sims.attacks import REPORTED_TARGETS
from sims.selection import baselines
from sims.selection.baselines import CANDIDATES, Run

# What is the default has to be among what was tried.
DEFAULTS = {
    "userknn": {"neighbors": OF_USERS},
    "itemknn": {"neighbors": OF_ITEMS},
    "ease": {"penalty": PENALTY},
    "ials": Ials(),
    "bpr": Bpr(),
    "lightgcn": LightGcn(),
}


@pytest.mark.parametrize("model", CANDIDATES)
def test_the_default_was_tried(model: str) -> None:
    tried = [fit.keywords or fit.args[0] for _, fit in CANDIDATES[model]()]  # type: ignore[attr-defined]
    assert DEFAULTS[model] in tried
    names = [name for name, _ in CANDIDATES[model]()]
    assert len(set(names)) == len(names)


def test_candidates_are_printed_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_of(dataset: str, seed: int, model: str, place: int, users: int) -> Run:
        value = float(place) if place < 3 else 0.0
        return Run(0.1, (0.5, 0.25), (value, value))

    def in_turn(_function: object, calls: list[Any], *, arrived: object) -> list[Run]:
        return [run_of(*call) for call in calls]

    monkeypatch.setattr(baselines, "in_processes", in_turn)
    app = typer.Typer()
    app.command()(baselines.main)
    done = CliRunner().invoke(app, ["--model", "userknn", "--seeds", "2"])
    assert done.exit_code == 0, done.output
    rows = [line for line in done.output.splitlines() if line.startswith("| k")]
    assert [row.split("|")[1].strip() for row in rows] == ["k = 80", "k = 40", "k = 20", "k = 160"]
    assert rows[0].endswith("0.100 | 0.500 | 0.250 | 0.100 | 0.500 | 0.250 | 2.000 |")
    assert CliRunner().invoke(app, ["--model", "esae"]).exit_code == 2


def test_candidates_are_fitted_to_ratings_with_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fit(ratings: RatingMatrix) -> Scorer:
        seen.append(ratings.user_count)
        return BASELINES["popularity"](ratings)

    monkeypatch.setitem(REPORTED_TARGETS, "synthetic:100x150", ())
    monkeypatch.setattr(baselines, "CANDIDATES", {"mine": lambda: iter([("one", fit)])})
    run = baselines.run_of("synthetic:100x150", 0, "mine", 0, 20)
    assert seen == [103]
    assert run.relative == pytest.approx(np.ones(2))


@pytest.mark.realdata
@pytest.mark.skipif("VICINAL_DATA" not in os.environ, reason="needs VICINAL_DATA")
@pytest.mark.parametrize("model", ["userknn", "ease"])
def test_a_candidate_on_validation_items(model: str) -> None:
    run = baselines.run_of("filmtrust", 0, model, 1, 100)
    assert 0.6 < run.accuracy[1] < run.accuracy[0] < 1
