"""Fakes that are kept in a store: the same ones, made once, and made anew when anything differs."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from common.errors import InputError
from common.ratings import RatingMatrix
from server.data.synthetic import synthetic
from server.model_store import ModelStore
from sims.attacks import ATTACKS, average, kept, make_profiles
from sims.attacks.budget import ATTACK_SIZE
from sims.attacks.kept import FOLDER, KeptAttacks
from sims.evaluation.study import Study, evaluate

ASKED: dict[str, Any] = {
    "seed": 0,
    "targets": None,
    "attack_size": ATTACK_SIZE,
    "options": {},
}
# Another of each thing that decides what an attack makes.
OTHERS: list[dict[str, Any]] = [
    {"seed": 1},
    {"targets": (7, 3)},
    {"attack_size": 0.06},
    {"options": {"knowledge": 0.5}},
]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each time that the attack `average` is computed."""
    found: list[str] = []
    attack: Callable[..., RatingMatrix] = average.average_attack

    @wraps(attack)
    def counted(*arguments: Any, **named: Any) -> RatingMatrix:
        found.append("average")
        return attack(*arguments, **named)

    monkeypatch.setattr(average, "average_attack", counted)
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_kept_fakes_are_those_that_were_made(name: str, tmp_path: Path) -> None:
    ratings = synthetic(120, 160, seed=3)
    first = KeptAttacks(tmp_path / "store").made(name, ratings, **ASKED)
    again = KeptAttacks(tmp_path / "store").made(name, ratings, **ASKED)
    plain = make_profiles(name, ratings, **ASKED)
    assert len(list((tmp_path / "store" / FOLDER).iterdir())) == 1
    for found in (first, again):
        assert found.ratings.digest() == plain.ratings.digest()
        assert replace(found, ratings=plain.ratings) == plain


def test_an_attack_is_computed_once_for_the_same_store(made: list[str], tmp_path: Path) -> None:
    study = Study(dataset="synthetic:60x90", attack="average", attack_size=0.1, users=20)
    first, again = (evaluate(study, tmp_path / "store", processes=1) for _ in range(2))
    assert made == ["average"]
    told, told_again = (found.to_json() for found in (first, again))
    assert told.pop("seconds") and told_again.pop("seconds")
    assert told == told_again and told["fakes"] == 6


def test_who_opens_the_store_meanwhile_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratings, opened = synthetic(120, 160, seed=3), list[bool]()
    replace_file, rename = os.replace, Path.rename

    def open_store() -> None:
        if not opened:
            opened.append(True)
            with ModelStore(tmp_path / "store"):
                opened.clear()

    def replacing(source: Path, target: Path) -> None:
        open_store()
        replace_file(source, target)

    def renaming(source: Path, target: Path) -> Path:
        open_store()
        return rename(source, target)

    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(Path, "rename", renaming)
    KeptAttacks(tmp_path / "store").made("average", ratings, **ASKED)
    assert len(list((tmp_path / "store" / FOLDER).iterdir())) == 1


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_is_made_anew(other: dict[str, Any], made: list[str], tmp_path: Path) -> None:
    ratings, store = synthetic(120, 160, seed=3), KeptAttacks(tmp_path)
    for asked in (ASKED, ASKED | other, ASKED):
        store.made("average", ratings, **asked)
    assert len(made) == 2


def test_other_ratings_and_other_code_make_it_anew(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ratings = KeptAttacks(tmp_path), synthetic(120, 160, seed=3)
    store.made("average", ratings, **ASKED)
    store.made("average", synthetic(120, 160, seed=4), **ASKED)
    assert len(made) == 2
    monkeypatch.setattr(kept, "_code", lambda: "another")
    store.made("average", ratings, **ASKED)
    assert len(made) == 3


def test_a_function_of_ones_own_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from sims.attacks.average import average_attack\n"
        "def mine(ratings, targets, budget, *, rng):\n"
        "    return average_attack(ratings, targets, budget, rng=rng)\n"
    )
    KeptAttacks(tmp_path / "store").made(
        f"{tmp_path}/own.py:mine", synthetic(120, 160, seed=3), **ASKED
    )
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("kind", ["cut", "flipped", "nonsense", "empty"])
def test_a_damaged_file_is_one_clear_line(kind: str, tmp_path: Path) -> None:
    ratings, store = synthetic(120, 160, seed=3), KeptAttacks(tmp_path)
    store.made("average", ratings, **ASKED)
    (path,) = (tmp_path / FOLDER).iterdir()
    data = bytearray(path.read_bytes())
    # The file ends with its tables.
    data[-1] ^= 1
    damaged = {"cut": data[:-20], "flipped": data, "nonsense": b"\xff" * 400, "empty": b""}
    path.write_bytes(bytes(damaged[kind]))
    with pytest.raises(InputError, match=r"safetensors: damaged: delete it to have the attack"):
        store.made("average", ratings, **ASKED)
