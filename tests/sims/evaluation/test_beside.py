"""Baselines beside a result: by name, on the attacked ratings, left out with a line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import InputError
from common.ranking import Counts, count_user, top_items
from server.baselines import BASELINES
from sims.evaluation.baselines import USUAL, baselines_named, measure_baseline
from sims.evaluation.experiment import Experiment, prepare
from sims.evaluation.study import Study, evaluate

SMALL: dict[str, Any] = {
    "dataset": "synthetic:60x90",
    "attack": "average",
    "attack_size": 0.1,
    "k": 9,
    "min_support": 2,
    "steps": 1,
}


def test_names() -> None:
    assert baselines_named(None) == USUAL == ("popularity", "userknn", "ease")
    assert baselines_named("none") == baselines_named([]) == ()
    assert baselines_named("all") == tuple(BASELINES)
    assert baselines_named("ease, popularity") == ("popularity", "ease")
    assert baselines_named(["ease", "ease"]) == ("ease",)
    with pytest.raises(InputError, match="unknown baseline 'eas': did you mean ease"):
        baselines_named("eas")
    with pytest.raises(InputError, match="unknown baseline 'none'"):
        baselines_named("none,ease")
    with pytest.raises(InputError, match="unknown baseline 'bpr'"):
        Study(baselines=("bpr",))


def test_a_baseline_is_fitted_to_the_attacked_ratings_and_asked_user_by_user() -> None:
    prepared = prepare(Experiment(SMALL["dataset"], attack="average", attack_size=0.1))
    users = np.arange(0, 60, 3)
    for name, fit in BASELINES.items():
        found = measure_baseline(
            name, prepared.poisoned, prepared.local, users, prepared.watched, 20
        )
        scorer, expected = fit(prepared.poisoned), Counts.none(5)
        for user in users.tolist():
            rated = prepared.local.train.items_of(user)
            items = top_items(scorer.scores(user), rated, 20)
            expected += count_user(items, rated, prepared.watched, prepared.local.held_out_of(user))
        assert found.counts == expected and len(found.seconds) == len(users)


def test_popularity_is_always_there_and_others_as_asked(tmp_path: Path) -> None:
    asked = {"none": {"popularity"}, "all": set(BASELINES), "itemknn": {"popularity", "itemknn"}}
    for text, expected in asked.items():
        found = evaluate(Study(**SMALL, baselines=baselines_named(text)), tmp_path, processes=1)
        told = found.to_json()
        assert set(told["baselines"]) == expected
        popular = told["baselines"]["popularity"]
        assert popular["accuracy"] == told["accuracy"]["popularity"]
        assert popular["intervals"]["accuracy"] == told["intervals"]["accuracy"]["popularity"]
        rows = list(found.table().columns[0].cells)
        assert rows[5:] == [name for name in BASELINES if name in expected - {"popularity"}]


def test_a_baseline_that_cannot_be_fitted_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.baselines.ease.MOST", 10)
    found = evaluate(Study(**SMALL), tmp_path, processes=1)
    told = found.to_json()
    assert set(told["baselines"]) == {"popularity", "userknn"}
    (note,) = (note for note in told["notes"] if note.startswith("baseline"))
    assert note.startswith("baseline ease is left out: ease: 66 users × 90 items")
    assert "left out" in str(found)
