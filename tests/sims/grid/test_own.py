"""A grid of an attack and a model of one's own, on a real Ray, started from another folder."""

from pathlib import Path
from typing import Any

import pytest

import vicinal as vc
from sims.cli import run
from sims.grid.results import CELLS, read_results

pytestmark = pytest.mark.slow

NAME = "synthetic:60x120"
CONFIG = f"""
datasets = ["{NAME}"]
models = ["mf", "mine.py:fit"]
attacks = ["average", "mine.py:praise"]
presets = ["vicinal"]
attack_size = 0.1
users = 15
"""
MINE = """
import numpy as np
import torch

import beside


def praise(ratings, targets, budget, *, rng):
    table = np.zeros((budget.fakes, ratings.item_count))
    table[:, list(targets)] = ratings.scale.maximum
    return table


class Own(torch.nn.Module):
    def __init__(self, items):
        super().__init__()
        self.encoder = torch.nn.Linear(items, beside.WIDTH)
        self.decoder = torch.nn.Linear(beside.WIDTH, items)

    def embed(self, rows):
        return torch.tanh(self.encoder(rows))

    def forward(self, rows):
        return self.decoder(self.embed(rows))


def fit(ratings, *, seed):
    return Own(ratings.item_count)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("grid")
    (base / "grid.toml").write_text(CONFIG)
    (base / "mine.py").write_text(MINE)
    (base / "beside.py").write_text("WIDTH = 8\n")
    return base


def grid(base: Path) -> list[Any]:
    command = ["grid", str(base / "grid.toml"), "--folder", str(base / "run"), "--processes", "2"]
    assert run(command) == 0
    return [one.model_dump() for one in read_results(base / "run")]


def test_cells_are_what_evaluate_measures(folder: Path) -> None:
    results = grid(folder)
    assert len(results) == 2 * 2 * 2
    own = [one for one in results if one["model"] == "mine.py:fit" and one["defense"] == "rvd"]
    assert {one["attack"] for one in own} == {"average", "mine.py:praise"}
    for cell in own:
        attack, model = (
            cell["attack"].replace("mine.py", f"{folder}/mine.py"),
            f"{folder}/mine.py:fit",
        )
        told = vc.evaluate(NAME, attack=attack, model=model, attack_size=0.1, users=15).to_json()
        assert told["hit_ratio"] == cell["hit_ratio"] and told["accuracy"] == cell["accuracy"]
        assert (cell["preset"], cell["k"], cell["step_rule"]) == ("own", 40, "adam")
    page = (folder / "run" / "tables.md").read_text()
    assert "|mine.py:praise 10 %|" in page and f"{folder}/mine.py" not in page


def test_an_edited_file_is_measured_again_and_nothing_else(folder: Path) -> None:
    grid(folder)
    cells = folder / "run" / CELLS
    before = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    (folder / "mine.py").write_text(MINE + "\n# edited\n")
    grid(folder)
    after = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    assert before.items() <= after.items()
    # All but mf under average, with its two defenses.
    assert len(after) - len(before) == 6
