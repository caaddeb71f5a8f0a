"""Compositions beside their parts: differences by hand, and one small experiment."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from server.model_store import ModelStore
from sims.evaluation.defenses import DEFENSES, defense_named
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.selection.compositions import (
    TOLERANCE,
    Answers,
    Composition,
    Difference,
    answers,
    compositions,
    default_trainings,
    experiment_of,
    rows,
)


def given(hits: list[float], found: list[float], eligible: float = 5) -> Answers:
    return Answers(np.array(hits), np.full(len(hits), eligible), np.array(found))


def test_differences_are_paired_by_user() -> None:
    """Differences 1, 0, 0, −1 of accuracy: mean 0, deviation √(2/3), noise 2 √(2/3) / 2."""
    one, other = given([0] * 4, [1, 1, 0, 0]), given([0] * 4, [0, 1, 0, 1])
    found = Difference.of_accuracies(one, other)
    assert found.mean == 0
    assert found.noise == pytest.approx(np.sqrt(2 / 3))
    # The same users, one of whom gains: no noise from how users differ from each other.
    alike = Difference.of_accuracies(one, one)
    assert (alike.mean, alike.noise, alike.higher, alike.lower) == (0, 0, False, False)


def test_the_difference_of_hit_ratios_is_that_of_the_ratios() -> None:
    one, other = given([5, 0, 1, 0], [0] * 4), given([0, 0, 1, 0], [0] * 4)
    assert one.hit_ratio == pytest.approx(0.3)
    assert Difference.of_hit_ratios(one, other).mean == pytest.approx(0.25)


def test_a_composition_is_worse_only_beyond_noise_and_tolerance() -> None:
    assert not Difference(TOLERANCE, 0.0).higher
    assert Difference(TOLERANCE + 0.01, 0.005).higher
    assert not Difference(TOLERANCE + 0.01, 0.02).higher
    assert Difference(-TOLERANCE - 0.01, 0.005).lower


def test_what_is_lost_is_named_with_the_part_that_has_it() -> None:
    users = 200
    none, every = [0.0] * users, [1.0] * users
    open_, closed = given([5.0] * users, none), given([0.0] * users, none)
    good = given([0.0] * users, every)
    assert Composition(open_, good, good).worse() == []
    assert Composition(open_, good, closed).worse() == ["accuracy below rvd's"]
    assert Composition(good, closed, given([5.0] * users, none)).worse() == [
        "hit ratio above training's",
        "hit ratio above rvd's",
        "accuracy below training's",
    ]
    lines = list(rows(("a", "b", 0), {"rmf": Composition(open_, good, closed)}))
    assert lines == [
        "| a | b | 0 | rmf | hit ratio | 1.000 | 0.000 | 0.000 | -1.000 ± 0.000 | +0.000 ± 0.000 |"
        "  |",
        "| a | b | 0 | rmf | accuracy | 0.000 | 1.000 | 0.000 | +0.000 ± 0.000 | -1.000 ± 0.000 |"
        " accuracy below rvd's |",
    ]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(Experiment("synthetic:60x90", attack="average", seed=1, list_length=20))


def test_each_part_is_what_the_defense_alone_gives(prepared: Prepared, tmp_path: Path) -> None:
    found = compositions(prepared, ["unrated", "pca"], "vicinal", 25)
    with ModelStore(tmp_path) as store:
        for name, one in found.items():
            for text, part in (("rvd", one.rvd), (name, one.training), (f"{name}+rvd", one.both)):
                again = answers(
                    prepared, store, defense_named(text, preset="vicinal"), "vicinal", 25
                )
                for mine, other in zip(vars(part).values(), vars(again).values(), strict=True):
                    np.testing.assert_array_equal(mine, other)
    assert len(found["pca"].both.found) == 25


def test_trainings_are_those_that_the_model_has() -> None:
    trainings = [name for name, robust in DEFENSES.items() if robust is not None]
    assert default_trainings("mf") == trainings
    for name in default_trainings("autorec"):
        defense_named(f"{name}+rvd", model="autorec")
    with pytest.raises(InputError, match="no reported targets"):
        experiment_of("synthetic:60x90", "average", 0, "mf", test=False)
