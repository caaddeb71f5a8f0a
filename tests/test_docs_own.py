"""The pages on attacks and models of one's own: their examples run as they stand there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vicinal as vc
from sims.attacks.profiles import read_profiles
from sims.evaluation.experiment import Experiment, prepare

ROOT = Path(__file__).resolve().parents[1]
HOW_TO = ROOT / "docs" / "how-to"
DATASET = "synthetic:120x200"
FEW = ("--users", "20", "--processes", "1")
TIMES = {"seconds", "run"}


def page(name: str) -> str:
    return (HOW_TO / f"{name}.md").read_text(encoding="utf-8")


def written(name: str, path: Path) -> Path:
    """The one file that a page shows."""
    (code,) = re.findall(r"```python\n(.*?)```", page(name), flags=re.DOTALL)
    path.write_text(code, encoding="utf-8")
    return path


def use(name: str) -> str:
    """What a page does with the file in Python, on small data."""
    (code,) = re.findall(r"```py\n(.*?)```", page(name), flags=re.DOTALL)
    return str(code).replace('"ml-100k"', f'"{DATASET}"')


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluated(folder: Path, *arguments: str) -> dict[str, Any]:
    command = ("-m", "vicinal", "evaluate", "--dataset", DATASET, *FEW, "--json", "told.json")
    run(folder, sys.executable, *command, *arguments)
    told: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return {key: value for key, value in told.items() if key not in TIMES}


@pytest.fixture
def bandwagon(tmp_path: Path) -> Path:
    return written("own-attack", tmp_path / "bandwagon.py")


def test_the_attack_keeps_the_contract(bandwagon: Path) -> None:
    assert len(bandwagon.read_text(encoding="utf-8").splitlines()) <= 30
    name = f"{bandwagon}:bandwagon"
    first, again = bandwagon.parent / "first.csv", bandwagon.parent / "again.csv"
    for path in (first, again):
        options = ("-o", str(path), "--dataset", DATASET)
        run(bandwagon.parent, sys.executable, "-m", "vicinal", "attack", name, *options)
    assert first.read_bytes() == again.read_bytes()
    train = prepare(Experiment(DATASET, attack="none")).split.train
    profiles = read_profiles(first, train.item_count, train.scale)
    table = profiles.ratings.dense()
    assert len(table) == int(0.03 * train.user_count)
    assert np.diff(profiles.ratings.indptr).max() <= len(train) // train.user_count
    assert (table[:, list(profiles.targets)] == 1).all()
    assert profiles.notes["attack"] == "bandwagon.py:bandwagon"
    assert profiles.notes["options"] == "knowledge=1 popular=200"
    # What it is: popular fillers.
    fillers = np.setdiff1d(profiles.ratings.items, profiles.targets)
    counts = train.item_counts()
    assert counts[fillers].mean() > counts.mean()


def test_the_command_and_python_measure_the_same_attack(
    bandwagon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = evaluated(
        bandwagon.parent, "--attack", "bandwagon.py:bandwagon", "--attack-option", "popular=100"
    )
    assert told["attack"] == "bandwagon.py:bandwagon"
    monkeypatch.chdir(bandwagon.parent)
    ours = vc.evaluate(
        DATASET, attack="bandwagon.py:bandwagon", attack_options={"popular": 100}, users=20
    )
    assert {key: value for key, value in ours.to_json().items() if key not in TIMES} == told
    scope: dict[str, Any] = {}
    exec(compile(bandwagon.read_text(), "bandwagon.py", "exec"), scope)
    function = vc.evaluate(
        DATASET, attack=scope["bandwagon"], attack_options={"popular": 100}, users=20
    )
    assert function.to_json()["hit_ratio"] == told["hit_ratio"]


def test_the_pages_lines_of_python_run(tmp_path: Path) -> None:
    written("own-attack", tmp_path / "bandwagon.py")
    written("own-model", tmp_path / "autoencoder.py")
    for name, shown in (("own-attack", "attack bandwagon"), ("own-model", "defense none")):
        (tmp_path / "use.py").write_text(use(name), encoding="utf-8")
        assert shown in " ".join(run(tmp_path, sys.executable, "use.py").split())


def test_the_command_and_python_measure_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written("own-model", tmp_path / "autoencoder.py")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40
    told = evaluated(tmp_path, "--model", "autoencoder.py:fit")
    assert told["model"] == "autoencoder.py:fit" and told["preset"] == "own" and told["k"] == 40
    monkeypatch.chdir(tmp_path)
    ours = vc.evaluate(DATASET, model="autoencoder.py:fit", users=20).to_json()
    assert {key: value for key, value in ours.items() if key not in TIMES} == told
    # The defense does something, and clean and poisoned models are two.
    ratios = told["hit_ratio"]
    assert ratios["clean"] != ratios["undefended"]
    assert ratios["defended"] != ratios["undefended"]
