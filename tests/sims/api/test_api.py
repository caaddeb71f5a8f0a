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
from server.training.bases import BASES
from server.training.train import TrainingSettings, train
from sims.attacks.profiles import write_profiles
from sims.cli import run
from tests.support.own_code import Own, fit, praise

NAME = "synthetic:60x120"
NAMED = ("model", "attack", "defense", "preset", "seed")
FEW: dict[str, Any] = {"users": 15, "attack_size": 0.1}


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
    return {key: value for key, value in told.items() if key not in ("seconds", "run")}


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
    assert html.startswith("<table>") and html.count("<tr>") == 8
    frame = found.frame()
    ratios = dict(frame.select("condition", "hit_ratio").iter_rows())
    beside = {name: one["hit_ratio"] for name, one in told["baselines"].items()}
    assert ratios == told["hit_ratio"] | beside
    assert found.table().row_count == 7


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


def test_a_model_is_trained_as_its_preset_says(data: vc.Dataset, tmp_path: Path) -> None:
    tuned = vc.train(data, store=tmp_path)
    assert tuned.digest != vc.train(data, preset="paper", store=tmp_path).digest
    # As a study trains it for the defense, on the same ratings.
    settings = TrainingSettings.on(data.name, model="mf", robust=BASES["mf"]["vicinal"])
    trained = train(data.ratings, settings).shared_parameters["item_embedding"]
    scorer: Any = tuned._scorer
    assert np.array_equal(scorer.version.parameters["item_embedding"], trained)
    # What is named goes before it, and a model without a training of its own has one alone.
    assert (
        vc.train(data, robust="rmf").digest == vc.train(data, robust="rmf", preset="paper").digest
    )
    assert vc.train(data, model="bpr").digest == vc.train(data, model="bpr", preset="paper").digest
    with pytest.raises(vc.InputError, match="unknown preset 'papr': did you mean paper"):
        vc.train(data, preset="papr")


def test_a_model_answers_as_a_study_asks(data: vc.Dataset) -> None:
    model = vc.train(data, seed=5)
    settings = model.settings["vicinal"]
    ours = model.recommend(3, 20).indices.tolist()
    scorer: Any = model._scorer
    assert ours == scorer.recommend(3, settings, 20).tolist()
    assert settings.neighbors == 24
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
