"""The pages on attacks: the example runs as it stands there, and the options are the real ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sims.attacks import ATTACKS, attack_named
from sims.attacks.options import declared
from sims.attacks.profiles import read_profiles
from sims.evaluation.experiment import Experiment, prepare

ROOT = Path(__file__).resolve().parents[1]
HOW_TO = ROOT / "docs" / "how-to"
DATASET = "synthetic:200x400"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    page = (HOW_TO / "own-attack.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(code) == 1
    path = tmp_path / "bandwagon.py"
    path.write_text(code[0], encoding="utf-8")
    return path


def run(path: Path, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_example_writes_profiles_that_keep_the_contract(example: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 45
    first, again = example.parent / "first.csv", example.parent / "again.csv"
    run(example, DATASET, str(first))
    run(example, DATASET, str(again))
    assert first.read_bytes() == again.read_bytes()
    train = prepare(Experiment(DATASET, attack="none")).split.train
    profiles = read_profiles(first, train.item_count, train.scale)
    table = profiles.ratings.dense()
    assert len(table) == int(0.03 * train.user_count)
    assert np.diff(profiles.ratings.indptr).max() <= len(train) // train.user_count
    assert (table[:, list(profiles.targets)] == 1).all()
    assert profiles.notes["options"] == "knowledge=1 popular=200"
    # What it is: popular fillers.
    fillers = np.setdiff1d(profiles.ratings.items, profiles.targets)
    counts = train.item_counts()
    assert counts[fillers].mean() > counts.mean()


@pytest.mark.parametrize("name", ATTACKS)
def test_every_option_and_its_default_is_on_the_page(name: str) -> None:
    page = (HOW_TO / "attacks.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{name}` \|.*$", page, flags=re.MULTILINE)
    assert row is not None
    for option, parameter in declared(attack_named(name)).items():
        assert f"`{option}={parameter.default}`" in row.group(), f"{name}: {option}"
