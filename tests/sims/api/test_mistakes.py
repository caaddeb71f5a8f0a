"""`import vicinal` given what it should not take, or might take for something else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vicinal as vc
from sims.api.picture import _outcomes
from tests.support.own_code import Own, fit, praise

NAME = "synthetic:60x120"
FEW: dict[str, Any] = {"users": 15, "attack_size": 0.1}
ANYTHING: Any = 7
# The same, for calls that a checker of types would refuse.
loose: Any = vc


class Odd(Own):
    """Fails where it should answer."""

    def __init__(self) -> None:
        super().__init__(120)

    def forward(self, rows: torch.Tensor) -> Any:
        raise KeyError("mine\nand more")


@pytest.fixture(scope="module")
def data() -> vc.Dataset:
    return vc.load(NAME)


def test_a_fit_cannot_write_to_the_ratings(data: vc.Dataset) -> None:
    def spoil(ratings: vc.RatingMatrix, *, seed: int) -> torch.nn.Module:
        ratings.levels[:] = 0
        return fit(ratings, seed=seed)

    before = data.ratings.digest()
    for call in (vc.evaluate, vc.train):
        with pytest.raises(
            vc.InputError, match=r"model spoil failed: ValueError in test_mistakes\.py"
        ):
            call(data, model=spoil)
    assert data.ratings.digest() == before


def test_profiles_of_a_function_in_a_file_are_measured(
    data: vc.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\ndef praise(ratings, targets, budget, *, rng):\n"
        "    table = np.zeros((budget.fakes, ratings.item_count))\n"
        "    table[:, list(targets)] = ratings.scale.maximum\n    return table\n"
    )
    fakes = vc.attack(f"{tmp_path}/mine.py:praise", data, attack_size=0.1, hold_out=True)
    # Nobody needs the file for profiles that are made.
    monkeypatch.chdir("/")
    told = vc.evaluate(data, attack=fakes, users=15).to_json()
    assert told["attack"] == "mine.py:praise" and told["fakes"] == 6
    same = vc.evaluate(data, attack=praise, **FEW).to_json()
    assert told["hit_ratio"] == same["hit_ratio"]
    for note in ("none", "file:x", "gone.py:f"):
        named = vc.Profiles(fakes.ratings, fakes.targets, {"attack": note})
        again = vc.evaluate(data, attack=named, users=15).to_json()
        assert again["hit_ratio"] == told["hit_ratio"] and again["fakes"] == 6
        assert again["attack"] == ("profiles" if note == "none" else note)


def test_names_are_text_and_no_markup(data: vc.Dataset) -> None:
    def odd(ratings: Any, targets: Any, budget: Any, *, rng: Any) -> Any:
        raise KeyError("[/x] :smile:")

    red = vc.load(data.ratings, name="my[red]set")
    found = vc.compare([red], [odd, "none"], progress=False, **FEW)
    for shown in (" ".join(str(found).split()), found._repr_html_()):
        assert "my[red]set" in shown and "[/x] :smile:" in shown
    module = Own(120)
    own = vc.defend(module, red, name="[/y]")
    noted = vc.evaluate(red, model=own, attack="none", users=15)
    for shown in (str(noted), noted._repr_html_()):
        assert "my[red]set · [/y]" in shown and "[/y] was trained from" in shown


def test_without_targets_there_is_no_hit_ratio(data: vc.Dataset) -> None:
    found = vc.evaluate(data, attack="none", targets=(), users=15)
    told = found.to_json()
    assert told["targets"] == [] and set(told["hit_ratio"].values()) == {None}
    assert json.loads(json.dumps(told))["hit_ratio"]["defended"] is None
    assert "clean model –" in repr(found)
    assert [str(cell) for cell in found.table().columns[1].cells] == ["–"] * 7
    assert found.frame()["hit_ratio"].null_count() == 7
    assert vc.picture(found)._repr_png_().startswith(b"\x89PNG")
    several = vc.compare([data], ["none"], targets=(), progress=False, users=15)
    assert several.frame()["hit_ratio_defended"].null_count() == 2 and "–" in str(several)


def test_recommend_takes_the_defenses_that_evaluate_takes(data: vc.Dataset) -> None:
    model: Any = vc.train(data)
    found = model.recommend(3, list_length=4, defense="rvd")
    assert found.defense == "vicinal" and len(found) == 4
    assert found.items == model.recommend(3, 4).items
    assert model.recommend(np.int64(3), 4, "none").user == 3


def test_a_picture_calls_a_defense_what_a_figure_calls_it(data: vc.Dataset) -> None:
    rows = _outcomes(vc.evaluate(data, attack="average", **FEW).to_json()).rows
    assert "rvd (vicinal, k = 24, by ratings, α = 0.7, φ = 3 %)" in rows


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda d: vc.load("ml100k"), "did you mean ml-100k"),
        (
            lambda d: vc.load("ml-100k", scale="1:5"),
            "is read as it is published or made: leave out scale",
        ),
        (lambda d: vc.attack("mixrnd", d), "unknown attack 'mixrnd': did you mean mixrand"),
        (lambda d: vc.attack("none", d), "makes no profiles"),
        (lambda d: vc.train(d, model="fm"), "unknown model 'fm': did you mean mf"),
        (lambda d: vc.train(d, robust="rfm"), "unknown robust training 'rfm': did you mean rmf"),
        (lambda d: vc.train(d, robust="rmf", model="nsvd"), "rmf"),
        (lambda d: vc.train(d, ANYTHING), "fakes: a int: give what vicinal.attack gives"),
        (lambda d: vc.train(d, vc.attack("average", "synthetic:60x90")), "different items"),
        (lambda d: vc.train(d).recommend(60), "unknown user 60: choose 0–59"),
        (lambda d: vc.train(d).recommend("x"), "unknown user x: choose 0–59"),
        (lambda d: vc.train(d).recommend(1, 0), "list_length 0: give a whole number of at least 1"),
        (lambda d: loose.train(d).recommend(1, 2.5), "list_length 2.5: give a whole number"),
        (lambda d: loose.train(d).recommend(1.7), "user 1.7: give a whole number, or text"),
        (lambda d: vc.train(d).recommend(True), "user True: give a whole number, or text"),
        (lambda d: vc.train(d).recommend("1_0"), "unknown user 1_0: choose 0–59"),
        (lambda d: vc.train(d).recommend(1, defense="vicnal"), "did you mean vicinal"),
        (lambda d: vc.train(d).recommend(1, defense="rmf+rvd"), r"train\(…, robust='rmf'\)"),
        (lambda d: loose.train(d, seed=1.5), "seed 1.5: give a whole number in 0–9223"),
        (lambda d: vc.defend(fit, d, seed=-1), "seed -1: give a whole number in 0–9223"),
        (lambda d: loose.defend(fit, d, steps=1.5), "steps 1.5: give a whole number"),
        (lambda d: vc.load(NAME, seed=-1), "seed -1: give a whole number in 0–9223"),
        (lambda d: vc.attack("average", d, seed=-1), "seed -1: give a whole number"),
        (lambda d: loose.attack("average", d, seed="1"), "seed '1': give a whole number"),
        (lambda d: vc.attack("average", d, options={"x": 1}), "unknown option 'x'"),
        (lambda d: vc.attack("file:x.csv", d, attack_size=0.1), "are made; leave out attack_size"),
        (lambda d: loose.attack("average", d, targets=5), "targets 5: give a list"),
        (lambda d: loose.attack("average", d, attack_size="x"), "attack size 'x': give a number"),
        (lambda d: loose.evaluate(d, attack_size="x"), "attack size 'x': give a number"),
        (lambda d: loose.evaluate(d, unrated_weight="x"), "unrated weight 'x': give a number"),
        (lambda d: loose.evaluate(d, defense=None), "defense None: give a name"),
        (lambda d: vc.compare(d, "none", "rdv"), "unknown defense 'rdv': did you mean rvd"),
        (lambda d: loose.compare([d], ["none"], seeds=3), "seeds 3: give a list"),
        (
            lambda d: loose.load({"user": [1], "item": [1], "rating": [3]}, scale=5),
            "scale 5: write",
        ),
        (lambda d: vc.evaluate(d, seed=2**64), "seed 18446744073709551616: give"),
        (lambda d: vc.evaluate(d, users=0), "users 0: give a whole number of at least 1"),
        (lambda d: vc.evaluate(d, users=-1), "users -1: give a whole number of at least 1"),
        (lambda d: loose.evaluate(d, k=1.5), "k 1.5: give a whole number of at least 1"),
        (lambda d: vc.evaluate(d, list_length=0), "list length 0: give a whole number"),
        (lambda d: vc.evaluate(d, processes=0), "processes 0: give a whole number of at least 1"),
        (lambda d: vc.evaluate(d, attack="file:x.csv", attack_size=0.1), "leave it out"),
        (
            lambda d: vc.evaluate(d, attack=vc.attack("average", d), attack_size=0.1),
            "are made; leave out",
        ),
        (lambda d: loose.compare([d], ["none"], seeds=[0, 1.5]), "seed 1.5: give a whole number"),
        (lambda d: vc.compare([d], ["none"], users=0), "users 0: give a whole number"),
        (lambda d: vc.compare([d], ["none", "mixrnd"]), "unknown attack 'mixrnd': did you mean"),
        (
            lambda d: vc.compare([d], ["none", praise], attack_options={"praise": {"nose": 1}}),
            "attack praise: unknown option 'nose'",
        ),
        (
            lambda d: vc.compare([d], ["file:x.csv", "none"], attack_size=0.1),
            "attack file:x.csv: these profiles are made; leave out attack_size",
        ),
        (lambda d: vc.defend(Own(90), d), r"forward\(rows\) over 120 items fails: RuntimeError"),
        (lambda d: vc.defend(Odd(), d), r"own model: forward\(rows\) over 120 .*KeyError: 'mine"),
        (lambda d: vc.evaluate(d, defense="rdv"), "unknown defense 'rdv': did you mean rvd"),
        (lambda d: vc.evaluate(d, model=vc.train(d)), "give its name alone"),
        (lambda d: vc.evaluate(d, model=fit, defense="rmf"), "choose none or rvd"),
        (lambda d: vc.evaluate(d, model=fit, preset="paper"), "has no presets"),
        (lambda d: vc.evaluate(d, model=fit, min_support=3), "min support: a model of your own"),
        (lambda d: vc.evaluate(d, model=7), "neither a torch.nn.Module nor a function"),
        (lambda d: vc.evaluate(d, model=lambda ratings: 7), r"cannot be called as fit\(ratings"),
        (lambda d: vc.evaluate(d, model=lambda ratings, seed: 7), "fit gives a int, not a torch"),
        (
            lambda d: vc.evaluate(d, model=lambda ratings, seed: 1 / 0),
            "failed: ZeroDivisionError in test_mistakes.py line",
        ),
        (lambda d: vc.evaluate(d, attack=vc.attack("average", d), targets=[1]), "are made"),
        (lambda d: vc.defend(torch.nn.Linear(120, 120), d), "a method embed"),
        (lambda d: vc.compare([d], []), "compare: attacks is empty"),
        (lambda d: vc.compare([d, d], ["none"]), f"two data sets are called {NAME}"),
        (lambda d: vc.compare([d], ["none"], attack_options={"x": {}}), "x is none of the attacks"),
        (lambda d: vc.picture(ANYTHING), "not of a int"),
    ],
)
def test_a_mistake_is_one_clear_line(call: Any, told: str, data: vc.Dataset) -> None:
    with pytest.raises(vc.InputError, match=told) as raised:
        call(data)
    assert "\n" not in str(raised.value)
