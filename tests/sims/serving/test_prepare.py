"""What a server makes of its presets, and says of them, when it starts."""

from pathlib import Path

import pytest

from common.errors import InputError
from common.vicinal.settings import PRESETS, VicinalSettings, capped
from server.model_store import ModelStore
from server.versions.folder import current_version, read_description
from sims.evaluation.study import Study
from sims.serving.prepare import Serving, _tolerated_notes


def serving(model: str, *, row_cap: int | None = None, fold_in: bool = False) -> Serving:
    study = Study("synthetic:60x40", model, "none", row_cap=row_cap, fold_in=fold_in)
    return Serving(study, False, "auto", None, presets=("vicinal", "paper"))


def test_the_raters_told_are_those_that_an_item_needs() -> None:
    settings = VicinalSettings(24, 0.7, 1, assumed_fakes=0.03, margin=4)
    needed = capped(settings, 120).required_raters(120)
    assert needed == 6  # and not the 8 of the margin that is for more users
    (note,) = _tolerated_notes({"vicinal": settings}, 120, 120)
    assert f"an item needs {needed} raters" in note


def test_what_rows_show_less_of_no_other_preset_shows(tmp_path: Path) -> None:
    with ModelStore(tmp_path / "store") as store:
        serving("cdae", row_cap=5, fold_in=True).write(tmp_path / "served", store)
    folder = tmp_path / "served"
    found, _ = read_description(folder, current_version(folder))
    told = {name: (each.row_cap, each.fold_in, each.steps) for name, each in found.presets.items()}
    steps = {name: each.steps for name, each in PRESETS["cdae"].items()}
    assert told == {name: (5, True, steps[name]) for name in ("vicinal", "paper")}


def test_a_preset_that_needs_trained_vectors_is_not_served_beside_one_without(
    tmp_path: Path,
) -> None:
    with (
        ModelStore(tmp_path / "store") as store,
        pytest.raises(InputError, match="as in preset paper, is defended by trained vectors"),
    ):
        serving("mf", fold_in=True).write(tmp_path / "served", store)
