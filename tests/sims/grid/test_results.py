"""Stored cells: what they keep, what they are named after, and those of the format before."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from common.errors import InputError
from common.vicinal.settings import VicinalSettings
from sims.cli import run
from sims.evaluation.cell import Cell
from sims.evaluation.defenses import Defense
from sims.evaluation.experiment import Experiment, not_attacked
from sims.figures.embedding import experiment_of
from sims.functions import resolved
from sims.grid.config import GridConfig
from sims.grid.results import (
    CELLS,
    cell_path,
    read_named,
    read_result,
    read_results,
    refuse_old,
    result_of,
    write_parquet,
    write_result,
)
from tests.support.grid_results import SINCE_2, filled, result

CONFIG = GridConfig(
    datasets=["ml-100k"],
    attacks=["vicinity"],
    presets=["vicinal"],
    attack_options={"vicinity": {"hubs": 4}},
)
# As the version before wrote it, with made-up numbers.
OLD = Path(__file__).parent / "format-1.json"


def old_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    (folder / CELLS).mkdir(parents=True)
    (folder / CELLS / "0a.json").write_text(OLD.read_text())
    return folder


def defended() -> Cell:
    return next(cell for cell in CONFIG.cells() if cell.defense.rvd)


def test_a_result_keeps_all_settings(tmp_path: Path) -> None:
    cell = defended()
    kept = result_of(cell, None, "no memory")
    assert kept.format == 3 and kept.attack_options == {"hubs": 4}
    for name in (
        "min_support",
        "step_rule",
        "learning_rate",
        "proximal_weight",
        "steps",
        "neighbors_by",
        "margin",
    ):
        assert getattr(kept, name) == getattr(cell.settings, name)
    assert kept.min_support == 1 and kept.assumed_fakes == 0.03
    assert kept.attack_label == "vicinity (hubs = 4)"
    larger = kept.model_copy(update={"attack_size": 0.1})
    assert larger.attack_label == "vicinity 10 % (hubs = 4)"
    write_parquet(tmp_path / "r.parquet", [kept, result(attack="aush")])
    table = pl.read_parquet(tmp_path / "r.parquet")
    assert table["attack_options"].to_list() == ['{"hubs": 4}', "{}"]
    assert table["min_support"].to_list() == [1, 1]


def test_two_versions_of_an_attack_of_ones_own_are_told_apart(tmp_path: Path) -> None:
    named = replace(defended().experiment, attack_options={})
    for content in ("a = 1", "a = 2"):
        (tmp_path / "own.py").write_text(content)
        cell = replace(
            defended(),
            experiment=replace(named, attack=resolved(f"{tmp_path / 'own.py'}:make")),
        )
        write_result(cell_path(tmp_path, cell), result_of(cell, None, "not run"))
    first, second = read_results(tmp_path)
    assert {first.attack, second.attack} == {
        f"own.py:make#{one.attack_digest}" for one in (first, second)
    }
    # Its fakes are made again from the same content, or not at all.
    experiment = experiment_of(first.model_copy(update={"error": ""}))
    assert experiment.attack == first.attack
    # With one version the name is as short as it was typed.
    cell_path(tmp_path, cell).unlink()
    (alone,) = read_results(tmp_path)
    assert alone.attack == "own.py:make"
    assert experiment_of(alone).attack == f"own.py:make#{alone.attack_digest}"


def test_a_file_is_named_after_every_setting_and_no_class(tmp_path: Path) -> None:
    cell = defended()
    others = [
        replace(cell, users=9),
        replace(cell, baselines=("popularity",)),
        replace(cell, settings=replace(cell.settings, min_support=23)),
        replace(cell, experiment=replace(cell.experiment, attack_options={"hubs": 3})),
        replace(cell, experiment=replace(cell.experiment, seed=1)),
    ]
    assert len({cell_path(tmp_path, one) for one in (cell, *others)}) == 6

    # Held fixed: with another name every stored grid would run again.
    experiment = Experiment(attack="vicinity", attack_options={"hubs": 4})
    settings = VicinalSettings(300, 0.4, 4, min_support=24)
    fixed = Cell(experiment, Defense(None, rvd=True), "vicinal", settings)
    assert cell_path(tmp_path, fixed).stem == "98f6ca51cfab3f0b2aa5a8a99b1b2528"


def test_a_result_of_format_1_is_read_and_says_what_it_lacks(tmp_path: Path) -> None:
    folder = old_folder(tmp_path)
    (found,) = read_results(folder)
    assert found.format == 1 and found.hit_ratio["defended"] == 0.25
    assert found.attack_options is None and found.min_support is None
    assert run(["figure", "heat-map", str(folder), "-o", str(tmp_path / "a.svg")]) == 0


def test_a_result_of_format_2_is_read_without_what_came_later(tmp_path: Path) -> None:
    later = ("recall_10", "intervals", "baselines", "goal", "harm_over_clean")
    told = {k: v for k, v in result(format=2).model_dump().items() if k not in later}
    folder = tmp_path / "two"
    (folder / CELLS).mkdir(parents=True)
    (folder / CELLS / "0a.json").write_text(json.dumps(told))
    (found,) = read_results(folder)
    assert found.format == 2 and found.min_support == 1 and found.accuracy["defended"] == 0.3
    assert not found.recall_10 and not found.intervals and not found.baselines
    with pytest.raises(InputError, match="holds results of format 2, which lack metrics"):
        refuse_old(folder)


def test_users_of_format_1_are_not_drawn_under_another_attack(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = old_folder(tmp_path)
    assert run(["figure", "embeddings", str(folder), "-o", str(tmp_path / "a.svg")]) == 2
    errors = capfd.readouterr().err
    assert "format 1 do not keep the options of vicinity" in errors
    assert "another --folder" in errors and errors.count("\n") == 1


def test_a_grid_does_not_go_on_in_a_folder_of_format_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = old_folder(tmp_path)
    config = tmp_path / "grid.toml"
    config.write_text('datasets = ["synthetic:90x120"]\nattacks = ["random"]\n')
    assert run(["grid", str(config), "--folder", str(folder)]) == 2
    errors = capfd.readouterr().err
    assert "format 1" in errors and "needs another --folder" in errors
    assert len(errors.strip().splitlines()) == 1
    assert [path.name for path in (folder / CELLS).iterdir()] == ["0a.json"]
    refuse_old(filled(tmp_path / "new", [result()]))


@pytest.mark.parametrize("missing", SINCE_2)
def test_a_result_of_format_2_lacks_nothing(tmp_path: Path, missing: str) -> None:
    path = tmp_path / CELLS / "a.json"
    path.parent.mkdir()
    told = result().model_dump()
    del told[missing]
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match=f"damaged .*{missing}"):
        read_result(path)
    # Nor may one of format 1 know what it could not have written.
    path.write_text(json.dumps({**json.loads(OLD.read_text()), missing: SINCE_2[missing]}))
    with pytest.raises(InputError, match=f"damaged .*{missing}"):
        read_named(path)


def test_without_its_attack_an_experiment_has_no_options() -> None:
    plain = not_attacked(Experiment(attack="vicinity", attack_options={"hubs": 4}))
    assert plain == not_attacked(Experiment(attack="aush"))


def test_what_is_measured_on_the_clean_model_is_shared_by_all_options() -> None:
    cell = defended()
    other = replace(cell, experiment=replace(cell.experiment, attack_options={"hubs": 3}))
    assert cell.memo_key("clean", (1,)) == other.memo_key("clean", (1,))
    assert cell.memo_key("defended", (1,)) != other.memo_key("defended", (1,))
