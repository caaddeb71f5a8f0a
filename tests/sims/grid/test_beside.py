"""Baselines of a grid: fitted once an attack, whatever models and defenses there are."""

from pathlib import Path
from typing import Any

import pytest

from sims.evaluation.cell import Memo
from sims.grid.config import GridConfig
from sims.grid.results import read_result, write_result
from sims.grid.run import attack_profiles, run_group
from sims.grid.table import pages

CONFIG = GridConfig(
    datasets=["synthetic:60x90"],
    models=["mf", "nsvd"],
    attacks=["average"],
    presets=["vicinal"],
    neighbors=[9],
    users=20,
)


def test_every_model_has_the_baselines_that_were_measured_with_the_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = CONFIG.cells()
    attacked = attack_profiles(cells)
    assert len(attacked[1]) == 3

    def again(*_: Any) -> None:
        raise AssertionError("fitted a second time")

    monkeypatch.setattr("sims.evaluation.cell.measure_baseline", again)
    nothing: Memo = {}
    for model in CONFIG.models:
        group = [cell for cell in cells if cell.experiment.model == model]
        for result in run_group(group, tmp_path / model, nothing, attacked):
            assert result.error == "" and result.format == 3
            assert set(result.baselines) == {"popularity", "userknn", "ease"}
            assert result.recall_10["defended"] is not None
            low, high = result.intervals["accuracy"]["defended"] or (1, 0)
            assert low <= result.accuracy["defended"] <= high
            path = tmp_path / "cells" / "a.json"
            write_result(path, result)
            assert read_result(path) == result
            row = result.flat()
            assert row["baselines_ease_accuracy"] == result.baselines["ease"]["accuracy"]
            assert row["intervals_accuracy_defended"] == (low, high)


def test_an_attack_that_fails_is_a_line(tmp_path: Path) -> None:
    cells = CONFIG.model_copy(update={"attacks": ["file:/no/such"]}).cells()
    line, memo = attack_profiles(cells)
    assert isinstance(line, str) and "no such file" in line and memo == {}
    assert {one.error for one in run_group(cells, tmp_path, {}, (line, memo))} == {line}


def test_tables_have_a_row_for_each_baseline_and_a_column_for_each_share_of_fakes(
    tmp_path: Path,
) -> None:
    config = CONFIG.model_copy(update={"models": ["mf"], "attack_sizes": [0.03, 0.1]})
    cells = config.cells()
    results = [
        result
        for size in config.attack_sizes
        for part in [[cell for cell in cells if cell.experiment.attack_size == size]]
        for result in run_group(part, tmp_path / str(size), {}, attack_profiles(part))
    ]
    (hit_ratio, accuracy) = list(pages(config, results))
    assert hit_ratio.columns == accuracy.columns == ("average", "average 10 %")
    for page, metric in ((hit_ratio, "hit_ratio"), (accuracy, "accuracy")):
        rows = dict(page.rows)
        assert {"mf, userknn", "mf, ease", "mf, popularity ranking"} <= set(rows)
        for place, size in enumerate(config.attack_sizes):
            measured = next(one for one in results if one.attack_size == size)
            (shown,) = rows["mf, ease"][place].values
            assert shown == measured.baselines["ease"][metric]
