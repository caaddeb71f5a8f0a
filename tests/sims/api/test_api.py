"""`import vicinal` as a program uses it: what each call gives, says and refuses."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import vicinal as vc
from common.threads import THREAD_VARIABLES, one_thread
from sims.api.picture import _outcomes
from sims.attacks.profiles import write_profiles
from sims.cli import run
from sims.evaluation.own_model import fitted

NAME = "synthetic:60x120"
ANYTHING: Any = 7
NAMED = ("model", "attack", "defense", "preset", "seed")
FEW: dict[str, Any] = {"users": 15, "attack_size": 0.1}


class Own(torch.nn.Module):
    """One hidden layer."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(items, 8), torch.nn.Linear(8, items)

    def embed(self, rows: torch.Tensor) -> Any:
        return torch.tanh(self.encoder(rows))

    def forward(self, rows: torch.Tensor) -> Any:
        return self.decoder(self.embed(rows))


class Odd(Own):
    """Fails where it should answer."""

    def __init__(self) -> None:
        super().__init__(120)

    def forward(self, rows: torch.Tensor) -> Any:
        raise KeyError("mine\nand more")


def fit(ratings: vc.RatingMatrix, *, seed: int) -> torch.nn.Module:
    return fitted(Own(ratings.item_count), ratings, seed=seed, epochs=20)


def praise(ratings: vc.RatingMatrix, targets: Any, budget: vc.Budget, *, rng: Any) -> Any:
    table = np.zeros((budget.fakes, ratings.item_count))
    table[:, list(targets)] = ratings.scale.maximum
    return table


def failing(ratings: vc.RatingMatrix, targets: Any, budget: vc.Budget, *, rng: Any) -> Any:
    raise KeyError("mine")


@pytest.fixture(scope="module")
def data() -> vc.Dataset:
    return vc.load(NAME)


@pytest.fixture(scope="module")
def named() -> vc.Dataset:
    """The same ratings, with text for users' ids and numbers for items'."""
    ratings = vc.load(NAME).ratings
    frame = pl.DataFrame(
        {
            "user": [f"u{user}" for user in ratings.users.tolist()],
            "item": 1000 + ratings.items.astype(np.int64),
            "rating": ratings.scale.values[ratings.levels],
        }
    )
    return vc.load(frame, name="mine")


def without_times(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != "seconds"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attack": "average", "defense": "rvd"}, "--attack average --defense rvd"),
        ({"defense": "rmf+rvd", "seed": 3, "k": 9}, "--defense rmf+rvd --seed 3 --k 9"),
        (
            {"model": "autorec", "preset": "paper", "list_length": 9, "targets": [1, 2]},
            "--model autorec --preset paper --list-length 9 --targets 1,2",
        ),
        (
            {"attack": "vicinity", "attack_options": {"hubs": 2}, "steps": 1, "min_support": 2},
            "--attack vicinity --attack-option hubs=2 --steps 1 --min-support 2",
        ),
    ],
)
def test_evaluate_gives_the_numbers_of_the_command(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    command = ["evaluate", "--dataset", NAME, "--users", "15", "--attack-size", "0.1"]
    command += ["--store", str(tmp_path / "store"), "--json", str(tmp_path / "json")]
    command += ["--processes", "2", *words.split()]
    assert run(command) == 0
    told = json.loads((tmp_path / "json").read_text())
    ours = vc.evaluate(NAME, **FEW, **options)
    assert without_times(json.loads(json.dumps(ours.to_json()))) == without_times(told)


def test_evaluate_shows_itself(data: vc.Dataset) -> None:
    found = vc.evaluate(data, attack="average", **FEW)
    told = found.to_json()
    assert repr(found).startswith(f"Evaluation({NAME} · mf · attack average · defense rvd")
    assert f"defended {told['hit_ratio']['defended']:.3f}" in repr(found)
    assert "popularity ranking" in str(found) and "\x1b" not in str(found)
    html = found._repr_html_()
    assert html.startswith("<table>") and html.count("<tr>") == 6
    frame = found.frame()
    ratios = dict(frame.select("condition", "hit_ratio").iter_rows())
    assert ratios == told["hit_ratio"]
    assert found.table().row_count == 5


def test_a_data_sets_name_is_text_in_html(data: vc.Dataset) -> None:
    odd = vc.load(data.ratings, name="<b>&")
    html = vc.evaluate(odd, attack="none", defense="none", **FEW)._repr_html_()
    assert "&lt;b&gt;&amp;" in html and "<b>" not in html


def test_attack_is_what_the_command_writes(tmp_path: Path) -> None:
    file = tmp_path / "fakes.csv"
    command = ["attack", "mixrand", "-o", str(file), "--dataset", NAME, "--seed", "2"]
    assert run([*command, "--attack-size", "0.1"]) == 0
    ours = vc.attack("mixrand", NAME, seed=2, attack_size=0.1, hold_out=True)
    write_profiles(tmp_path / "ours.csv", ours)
    assert (tmp_path / "ours.csv").read_bytes() == file.read_bytes()
    whole = vc.attack("mixrand", NAME, seed=2, attack_size=0.1)
    assert whole.notes["source_digest"] != ours.notes["source_digest"]
    # A file and profiles made before are attacks, too.
    again = [vc.evaluate(NAME, attack=each, seed=2, users=15) for each in (f"file:{file}", ours)]
    mixed = vc.evaluate(NAME, attack="mixrand", seed=2, **FEW)
    ratios = [each.to_json()["hit_ratio"] for each in (*again, mixed)]
    assert ratios[0] == ratios[1] == ratios[2]
    assert repr(ours).startswith("Profiles(attack mixrand, options knowledge=1, seed 2: 6 fakes")


def test_targets_are_ids(named: vc.Dataset) -> None:
    fakes = vc.attack("average", named, targets=[1003, "1007"], attack_size=0.1)
    assert fakes.targets == (3, 7)
    with pytest.raises(vc.InputError, match="unknown item '2000'"):
        vc.attack("average", named, targets=[2000])


def test_a_model_recommends_ids_and_scores(named: vc.Dataset) -> None:
    fakes = vc.attack("average", named, attack_size=0.1)
    model = vc.train(named, fakes)
    assert repr(model).startswith("Model(mf of mine: 60 users and 6 fakes × 120 items")
    assert model.digest[:12] in repr(model)
    for defense in ("vicinal", "paper", "none"):
        found = model.recommend("u7", 12, defense)
        assert len(found) == 12 and found.user == "u7" and found.defense == defense
        assert all(isinstance(item, int) and item >= 1000 for item in found.items)
        index = named.ratings.user_ids.index("u7")  # type: ignore[union-attr]
        assert not set(found.indices.tolist()) & set(named.ratings.items_of(index).tolist())
        assert (np.diff(found.scores) <= 0).all()
        assert list(found) == list(zip(found.items, found.scores.tolist(), strict=True))
        assert found.frame().columns == ["item", "score"]
        assert f"{found.items[0]}: {found.scores[0]:.3f}" in repr(found)
        assert "<table" in found._repr_html_()
    assert model.embeddings().shape == (66, 64)


def test_a_model_answers_as_a_study_asks(data: vc.Dataset) -> None:
    model = vc.train(data, seed=5)
    settings = model.settings["vicinal"]
    ours = model.recommend(3, 20).indices.tolist()
    scorer: Any = model._scorer
    assert ours == scorer.recommend(3, settings, 20).tolist()
    assert settings.neighbors == 60
    plain = model.recommend("3", 20, "none").indices.tolist()
    assert plain == scorer.recommend_undefended(3, 20).tolist()


def test_a_store_keeps_models_and_robust_trains_otherwise(data: vc.Dataset, tmp_path: Path) -> None:
    first = vc.train(data, store=tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert kept and vc.train(data, store=tmp_path).digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == kept
    assert vc.train(data, robust="rmf").digest != first.digest


def test_a_model_of_ones_own_is_defended(named: vc.Dataset) -> None:
    module = fit(named.ratings, seed=0)
    model = vc.defend(module, named, neighbors=12, steps=3)
    assert repr(model).startswith(
        "Model(Own of mine: 60 users × 120 items; defenses vicinal (k = 12"
    )
    with torch.no_grad():
        scores = module(torch.from_numpy(named.ratings.dense()))[0].numpy()
    plain = model.recommend("u0", 5, "none")
    np.testing.assert_allclose(plain.scores, scores[plain.indices], rtol=1e-5)
    assert model.recommend("u0", 5).scores.tolist() != plain.scores.tolist()
    # What happens to the module afterwards does not matter.
    with torch.no_grad():
        module.get_parameter("decoder.bias").zero_()
    assert model.recommend("u0", 5, "none").scores.tolist() == plain.scores.tolist()
    assert vc.defend(fit, named).digest == vc.defend(fit, named).digest
    assert vc.train(named, model=fit).digest == vc.defend(fit, named).digest


def test_evaluate_takes_a_model_of_ones_own_as_any_other(data: vc.Dataset) -> None:
    told = [
        without_times(vc.evaluate(data, model=each, **FEW).to_json())
        for each in (fit, vc.defend(fit, data))
    ]
    assert told[0] == told[1]
    assert (told[0]["model"], told[0]["preset"], told[0]["k"]) == ("fit", "own", 40)
    assert told[0]["hit_ratio"]["clean"] != told[0]["hit_ratio"]["undefended"]
    other = vc.evaluate(data, model=vc.defend(fit, data, neighbors=9), seed=1, **FEW).to_json()
    assert other["k"] == 9
    torch.manual_seed(0)
    before = torch.get_rng_state()
    start = vc.evaluate(data, model=Own(120), **FEW)
    assert (torch.get_rng_state() != before).any()  # by Own(120) alone
    (note,) = start.to_json()["notes"]
    assert note.startswith("Own was trained from the parameters it came with")
    assert note.split()[0] in str(start)


def test_fits_see_clean_and_poisoned_ratings_with_the_seed(data: vc.Dataset) -> None:
    seen = []

    def watched(ratings: vc.RatingMatrix, *, seed: int) -> torch.nn.Module:
        seen.append((ratings.user_count, seed, float(torch.rand(1))))
        return Own(ratings.item_count)

    state = torch.get_rng_state()
    vc.evaluate(data, model=watched, seed=4, **FEW)
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(entry[:2] for entry in seen) == [(60, 4), (66, 4)]
    assert len({entry[2] for entry in seen}) == 1


def test_compare_has_every_cell_and_the_numbers_of_evaluate(data: vc.Dataset) -> None:
    found = vc.compare(
        [data], [praise, failing, "none"], models=["mf", fit], presets=["vicinal", "paper"],
        seeds=range(2), progress=False, **FEW,
    )  # fmt: skip
    # none once, rvd by two presets, or by its own.
    assert len(found.cells) == 3 * 2 * (3 + 2)
    assert repr(found).startswith("Comparison(30 cells, 10 failed: 1 dataset, 2 models")
    assert len(found.failures) == 10
    assert "attack failing failed: KeyError in test_api.py line" in found.failures[0]
    cells = found.to_json()
    for model, preset in (("mf", "paper"), (fit, "vicinal")):
        one = vc.evaluate(data, attack=praise, model=model, preset=preset, seed=1, **FEW).to_json()
        (same,) = [
            cell
            for cell in cells
            if all(
                cell[key] == one[key] for key in ("model", "attack", "defense", "preset", "seed")
            )
        ]
        assert without_times({**one, "error": ""}) == without_times(same)
    frame = found.frame()
    assert len(frame) == 30 and frame["hit_ratio_defended"].null_count() == 10
    assert set(frame["error"].unique()) >= {""}
    assert "failed" in str(found) and "<table>" in found._repr_html_()


def test_pictures_are_png(data: vc.Dataset, tmp_path: Path) -> None:
    drawn = vc.picture(vc.evaluate(data, attack="average", **FEW))
    assert drawn._repr_png_().startswith(b"\x89PNG") and f"PNG of {len(drawn.png)}" in repr(drawn)
    drawn.write(tmp_path / "bars.png")
    assert (tmp_path / "bars.png").read_bytes() == drawn.png
    large = vc.load("synthetic:120x80")
    users = vc.picture(vc.train(large, vc.attack("average", large)))
    assert users.title == "synthetic:120x80 · mf"
    with pytest.raises(vc.InputError, match="name a file that ends in"):
        drawn.write("bars.gif")


def test_a_fit_cannot_write_to_the_ratings(data: vc.Dataset) -> None:
    def spoil(ratings: vc.RatingMatrix, *, seed: int) -> torch.nn.Module:
        ratings.levels[:] = 0
        return fit(ratings, seed=seed)

    before = data.ratings.digest()
    for call in (vc.evaluate, vc.train):
        with pytest.raises(vc.InputError, match="model spoil failed: ValueError in test_api.py"):
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
    for shown in (str(found), found._repr_html_()):
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
    assert ["–"] * 5 == [str(cell) for cell in found.table().columns[1].cells]
    assert found.frame()["hit_ratio"].null_count() == 5
    assert vc.picture(found)._repr_png_().startswith(b"\x89PNG")
    several = vc.compare([data], ["none"], targets=(), progress=False, users=15)
    assert several.frame()["hit_ratio_defended"].null_count() == 2 and "–" in str(several)


def test_recommend_takes_the_defenses_that_evaluate_takes(data: vc.Dataset) -> None:
    model = vc.train(data)
    found = model.recommend(3, list_length=4, defense="rvd")
    assert found.defense == "vicinal" and len(found) == 4
    assert found.items == model.recommend(3, 4).items
    assert model.recommend(np.int64(3), 4, "none").user == 3


def test_a_picture_calls_a_defense_what_a_figure_calls_it(data: vc.Dataset) -> None:
    rows = _outcomes(vc.evaluate(data, attack="average", **FEW).to_json()).rows
    assert "rvd (vicinal, k = 60, α = 0.4, m = 5)" in rows


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda d: vc.load("ml100k"), "did you mean ml-100k"),
        (lambda d: vc.load("ml-100k", scale="1:5"), "has a scale of its own"),
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
        (lambda d: vc.train(d).recommend(1, 2.5), "list_length 2.5: give a whole number"),
        (lambda d: vc.train(d).recommend(1.7), "user 1.7: give a whole number, or text"),
        (lambda d: vc.train(d).recommend(True), "user True: give a whole number, or text"),
        (lambda d: vc.train(d).recommend("1_0"), "unknown user 1_0: choose 0–59"),
        (lambda d: vc.train(d).recommend(1, defense="vicnal"), "did you mean vicinal"),
        (lambda d: vc.train(d).recommend(1, defense="rmf+rvd"), r"train\(…, robust='rmf'\)"),
        (lambda d: vc.train(d, seed=1.5), "seed 1.5: give a whole number in 0–9223"),
        (lambda d: vc.defend(fit, d, seed=-1), "seed -1: give a whole number in 0–9223"),
        (lambda d: vc.defend(fit, d, steps=1.5), "steps 1.5: give a whole number"),
        (lambda d: vc.load(NAME, seed=-1), "seed -1: give a whole number in 0–9223"),
        (lambda d: vc.attack("average", d, seed=-1), "seed -1: give a whole number"),
        (lambda d: vc.attack("average", d, seed="1"), "seed '1': give a whole number"),
        (lambda d: vc.attack("average", d, options={"x": 1}), "unknown option 'x'"),
        (lambda d: vc.attack("file:x.csv", d, attack_size=0.1), "are made; leave out attack_size"),
        (lambda d: vc.evaluate(d, seed=2**64), "seed 18446744073709551616: give"),
        (lambda d: vc.evaluate(d, users=0), "users 0: give a whole number of at least 1"),
        (lambda d: vc.evaluate(d, users=-1), "users -1: give a whole number of at least 1"),
        (lambda d: vc.evaluate(d, k=1.5), "k 1.5: give a whole number of at least 1"),
        (lambda d: vc.evaluate(d, list_length=0), "list_length 0: give a whole number"),
        (lambda d: vc.evaluate(d, processes=0), "processes 0: give a whole number of at least 1"),
        (lambda d: vc.evaluate(d, attack="file:x.csv", attack_size=0.1), "leave it out"),
        (
            lambda d: vc.evaluate(d, attack=vc.attack("average", d), attack_size=0.1),
            "are made; leave out",
        ),
        (lambda d: vc.compare([d], ["none"], seeds=[0, 1.5]), "seed 1.5: give a whole number"),
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
            "failed: ZeroDivisionError in test_api.py line",
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


def test_threads_come_back(data: vc.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with threadpool_limits(2):
        before = [each["num_threads"] for each in threadpool_info()]
        with one_thread():
            assert {each["num_threads"] for each in threadpool_info()} == {1}
            assert {os.environ[name] for name in THREAD_VARIABLES} == {"1"}
        assert [each["num_threads"] for each in threadpool_info()] == before
        vc.train(data, robust="rmf").recommend(3)
        assert [each["num_threads"] for each in threadpool_info()] == before
    assert os.environ["OMP_NUM_THREADS"] == "2" and "MKL_NUM_THREADS" not in os.environ
