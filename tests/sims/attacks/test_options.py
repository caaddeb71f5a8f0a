"""Options of attacks: what is taken, what is refused, and that they have an effect."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.ratings import RatingMatrix
from server.data.synthetic import synthetic
from sims import cli
from sims.attacks import ATTACKS, Budget, attack_named, make_profiles
from sims.attacks.options import declared, parse_options
from sims.attacks.profiles import read_profiles
from sims.attacks.random import random_attack

# Large enough that a share of the users still fills a profile; the work stays small.
REAL = synthetic(120, 150, seed=4)
CHEAP = {
    "aush": {"epochs": 2},
    "pga": {"iterations": 2},
    "tna": {"iterations": 2},
    "mixinf": {"candidates": 3},
    "vicinity": {"k": 10},
    "hubclones": {"k": 10},
    "covering": {"k": 10},
    "gcoattack": {"iterations": 2},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_option_is_documented_and_has_a_default(name: str) -> None:
    attack = attack_named(name)
    for option, parameter in declared(attack).items():
        assert parameter.default is not parameter.empty
        assert parameter.annotation in (int, float, str)
        assert f"{option}" in (attack.__doc__ or ""), f"{name} does not describe {option}"


@pytest.mark.parametrize("name", ATTACKS)
def test_an_unknown_option_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(
        InputError, match=f"attack {name}: unknown option 'knowlege': did you mean kn"
    ):
        make_profiles(name, REAL, seed=0, options={"knowlege": 0.5})


def test_a_misspelt_option_names_the_nearest_of_the_attack() -> None:
    with pytest.raises(
        InputError, match=r"did you mean hubs.*k, hubs, model, space, knowledge, targets"
    ):
        make_profiles("vicinity", REAL, seed=0, options={"hub": 3})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vicinity", {"k": "forty"}, "k=forty: give a whole number"),
        ("vicinity", {"k": "4.5"}, "k=4.5: give a whole number"),
        ("vicinity", {"k": 1}, "k=1: must be at least 2"),
        ("vicinity", {"hubs": 4}, "there are only 3 fakes"),
        ("vicinity", {"model": "mff"}, "unknown model 'mff'"),
        (
            "pga",
            {"values": "best"},
            "values: unknown value 'best': choose one of optimized, normal",
        ),
        ("pga", {"step": "nan"}, "step=nan: give a number"),
        ("pga", {"candidates": 0.5}, "candidates=0.5: must be at least 1"),
        ("tna", {"softness": 0}, "softness=0: must be at least 0.0001"),
        ("mixinf", {"candidates": 0}, "candidates=0: must be at least 1"),
        ("mixinf", {"ridge": -1}, "ridge=-1: must be at least"),
        ("aush", {"selected": 0}, "selected=0: must be at least 1"),
        ("hubclones", {"hubs": 4}, "there are only 3 fakes"),
        ("hubclones", {"space": "rating"}, "unknown value 'rating': did you mean ratings"),
        ("covering", {"k": 4, "copies": 3}, "copies=3: choose at most 2, for k = 4"),
        ("covering", {"k": 2}, "k=2: must be at least 3"),
        ("avgpop", {"popular": -1}, "popular=-1: must be at least 0"),
        ("group", {"audience": 0}, "audience=0: must be at least 1"),
        ("nuke", {"style": "lovehat"}, "unknown value 'lovehat': did you mean lovehate"),
        ("split", {"share": 1.5}, "share=1.5: must be in 0–1"),
        ("split", {"poison": "split"}, "poison: unknown value 'split'"),
        ("unattack", {"softness": 0}, "softness=0: must be at least 1e-06"),
        ("gcoattack", {"models": 2}, "models: unknown value '2'"),
        ("random", {"knowledge": 0}, "choose a share in"),
        ("random", {"knowledge": 1.01}, "choose a share in"),
        ("random", {"knowledge": 0.001}, "is 0 of 120 users"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(
    name: str, options: dict[str, int | float | str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_profiles(name, REAL, seed=0, options=options)


def test_options_are_recorded_with_their_defaults() -> None:
    profiles = make_profiles("vicinity", REAL, seed=0, options={"hubs": "2"})
    assert profiles.notes["options"] == "knowledge=1 k=40 hubs=2 model=mf space=embedding"
    assert make_profiles("random", REAL, seed=0).notes["options"] == "knowledge=1"


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attacker_who_knows_a_share_of_the_users_sees_only_them(name: str) -> None:
    seen: list[RatingMatrix] = []

    def witness(
        ratings: RatingMatrix,
        targets: tuple[int, ...],
        budget: Budget,
        *,
        rng: np.random.Generator,
    ) -> RatingMatrix:
        seen.append(ratings)
        return random_attack(ratings, targets, budget, rng=rng)

    options = CHEAP.get(name, {})
    whole = make_profiles(name, REAL, attack=witness, seed=1, targets=(3, 4))
    part = make_profiles(
        name, REAL, attack=witness, seed=1, targets=(3, 4), options={"knowledge": 0.4}
    )
    assert [ratings.user_count for ratings in seen] == [120, 48]
    assert {row.tobytes() for row in _rows(seen[1])} <= {row.tobytes() for row in _rows(REAL)}
    # The budget is that of the system, whatever is known of it.
    assert part.notes["fakes"] == whole.notes["fakes"] == "3"
    made = [
        make_profiles(name, REAL, seed=1, targets=(3, 4), options={**options, "knowledge": share})
        for share in (0.4, 1)
    ]
    # These need to know nobody.
    blind = name in {"uniform", "targets-only", "nuke"}
    assert (made[0].ratings.digest() == made[1].ratings.digest()) == blind


def _rows(ratings: RatingMatrix) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return list(ratings.dense())


def test_words_of_the_command_line() -> None:
    assert parse_options(["hubs=4", "k = 12"]) == {"hubs": "4", "k": "12"}
    for words, message in (
        (["hubs"], "write name=value"),
        (["=4"], "write name=value"),
        (["k=1", "k=2"], "given twice"),
    ):
        with pytest.raises(InputError, match=message):
            parse_options(words)


DATASET = "synthetic:150x200"


def test_the_command_line_hands_options_to_the_attack(tmp_path: Path) -> None:
    path = tmp_path / "fakes.csv"
    options = ["--attack-option", "hubs=2", "--attack-option", "knowledge=0.5"]
    assert cli.run(["attack", "vicinity", "-o", str(path), "--dataset", DATASET, *options]) == 0
    profiles = read_profiles(path, REAL.item_count + 50, REAL.scale)
    assert profiles.notes["options"] == "knowledge=0.5 k=40 hubs=2 model=mf space=embedding"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["attack", "vicinity", "-o", "FILE", "--attack-option", "hub=2"],
            "unknown option 'hub': did you mean hubs? choose one of k, hubs, model, space, "
            "knowledge, targets",
        ),
        (["attack", "random", "-o", "FILE", "--attack-option", "k"], "write name=value"),
        (["evaluate", "--attack", "none", "--attack-option", "k=2"], "attack none has no options"),
        (
            ["evaluate", "--attack", "file:fakes.csv", "--attack-option", "k=2"],
            "attack file:fakes.csv has no options: leave them out",
        ),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fakes.csv"
    words = [word.replace("FILE", str(path)) for word in arguments]
    assert cli.run([*words, "--dataset", DATASET]) == 2
    errors = capsys.readouterr().err
    assert line in errors and errors.count("\n") == 1
    assert not path.exists()
