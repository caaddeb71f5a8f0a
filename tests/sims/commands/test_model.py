"""`vicinal model`, end to end on small synthetic ratings."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from common.processes import module_command
from common.ratings import RatingMatrix
from server.data.datasets import load_dataset
from server.training.train import TrainingSettings, train
from sims.cli import run
from sims.commands.model import KEYS
from sims.processes.children import Children
from sims.serving.process import ServeProcess
from tests.support.modules import ENVIRONMENT
from tests.support.result_keys import differences

DATASET = "synthetic:80x120"
SMALL = ["--k", "10", "--min-support", "2", "--steps", "5", "--processes", "1"]


def save(folder: Path, dataset: str = DATASET) -> None:
    """Factors of a model of the ratings, in the order of their indices, times 5."""
    model = train(load_dataset(dataset).ratings, TrainingSettings(width=8))
    np.save(folder / "users.npy", 5 * model.user_parameters["user_embedding"])
    np.save(folder / "items.npy", model.shared_parameters["item_embedding"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(tmp_path)
    return tmp_path


def bring(*options: str, name: str = "mine", dataset: str = DATASET) -> int:
    tables = ["--users", "users.npy", "--items", "items.npy", "--ratings", dataset]
    return run(["model", "import", name, *tables, "--store", "store", *options])


def evaluated(*options: str) -> dict[str, Any]:
    command = ["evaluate", "--dataset", DATASET, "--store", "store", "--json", "told.json", *SMALL]
    assert run([*command, *options]) == 0
    told: dict[str, Any] = json.loads(Path("told.json").read_text())
    return told


def test_the_json_has_every_promised_key(folder: Path) -> None:
    assert bring("--json", "told.json") == 0
    told = json.loads((folder / "told.json").read_text())
    assert differences(told, KEYS, KIND=("users", "items")) == set()
    assert told["users"] == {"ratings": 80, "matched": 80, "missing": 0, "left_out": 0}
    assert told["notes"] == [
        "users: rows are taken in the order of their ids, which no file names",
        "items: rows are taken in the order of their ids, which no file names",
    ]


def test_the_imported_model_is_measured_as_that_of_the_project(folder: Path) -> None:
    ours = evaluated("--attack", "average")
    # Trained on exactly what evaluate trains on, as another library would.
    for name, attack in (("clean", "none"), ("attacked", "average")):
        ratings = ["--attack", attack, "--hold-out"]
        command = ["model", "ratings", "--dataset", DATASET, "-o", f"{name}.csv"]
        assert run([*command, *ratings]) == 0
        table = pl.read_csv(f"{name}.csv")
        model = train(matrix_of(table), TrainingSettings())
        np.save("users.npy", 5 * model.user_parameters["user_embedding"])
        np.save("items.npy", model.shared_parameters["item_embedding"])
        assert bring(*ratings) == 0
    theirs = evaluated("--attack", "average", "--model", "imported:mine")
    assert theirs["notes"] == []
    assert theirs["model"] == "imported:mine"
    for condition in ("clean", "undefended"):
        assert theirs["accuracy"][condition] == ours["accuracy"][condition]
        assert theirs["hit_ratio"][condition] == ours["hit_ratio"][condition]
    # The fine-tune starts from other numbers, which rank alike.
    assert abs(theirs["accuracy"]["defended"] - ours["accuracy"]["defended"]) < 0.2


def matrix_of(table: pl.DataFrame) -> Any:
    """Zero-based indices and ratings as the project has them; all items of the data set."""
    whole = load_dataset(DATASET).ratings
    return RatingMatrix.from_triples(
        table["user"].to_numpy(),
        table["item"].to_numpy(),
        whole.scale.nearest_levels(table["rating"].to_numpy()),
        user_count=int(table["user"].to_numpy().max()) + 1,
        item_count=whole.item_count,
        scale=whole.scale,
    )


def test_a_model_without_the_fakes_says_so(folder: Path) -> None:
    assert bring() == 0
    (clean, attacked) = evaluated("--attack", "average", "--model", "imported:mine")["notes"]
    assert clean.startswith("clean model: imported:mine was trained on other ratings than these")
    assert "2 of 82 users are folded in" in attacked
    assert evaluated("--attack", "none", "--targets", "3", "--model", "imported:mine")["notes"] == [
        clean
    ]


def test_ratings_with_ids_are_written_with_them(folder: Path) -> None:
    pairs = [(user, item) for user in range(9) for item in (user, user + 1, 20)]
    rows = [f"u{user},i{item},{1 + user * item % 5}" for user, item in pairs]
    (folder / "ratings.csv").write_text("\n".join(["user,item,rating", *rows]))
    options = [
        "--dataset",
        "ratings.csv",
        "--attack",
        "random",
        "--attack-size",
        "0.3",
        "--targets",
        "5",
    ]
    assert run(["model", "ratings", *options, "-o", "out.parquet"]) == 0
    table = pl.read_parquet("out.parquet")
    assert table.columns == ["user", "item", "rating"]
    real = [f"u{user}" for user in range(9)]
    assert table["user"].unique().sort().to_list() == ["fake-0", "fake-1", *real]
    assert set(table["item"]) <= {f"i{n}" for n in range(21)}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--users", "model.pt"], "such files can run code and are not read"),
        (["--users", "none.npy"], "none.npy: no such file"),
        (["--user-ids", "none.txt"], "none.txt: no such file"),
        (["--item-biases", "users.npy"], "has shape (80, 8), not one number a row"),
        (["--global-bias", "nan"], "global bias nan"),
        (["--attack", "mixrnd"], "unknown attack 'mixrnd': did you mean mixrand?"),
        (["--ratings", "synthetic:90x120"], "80 rows of user factors, and the ratings have 90"),
    ],
)
def test_bad_input_is_one_clear_line(
    folder: Path, options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring(*options) == 2
    told = capsys.readouterr().err
    assert line in told and told.count("\n") == 1
    assert not list((folder / "store").glob("imported/*"))


def test_names_and_files_that_cannot_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bring(name="../x") == 2
    assert "take letters, digits" in capsys.readouterr().err
    assert run(["model", "ratings", "--dataset", DATASET, "-o", "out.txt"]) == 2
    assert "its name must end in .csv or .parquet" in capsys.readouterr().err
    assert run(["model", "list", "--store", "nowhere"]) == 2
    assert "nowhere: no such store" in capsys.readouterr().err


def test_rows_of_others_are_warned_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("users.npy", np.load("users.npy")[::-1])
    assert bring() == 0
    assert "WARNING: users' ratings are predicted no better" in capsys.readouterr().err


def test_the_list_says_which_ratings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bring() == bring(name="other") == 0
    capsys.readouterr()
    assert run(["model", "list", "--store", "store"]) == 0
    digest = load_dataset(DATASET).ratings.digest()[:12]
    assert capsys.readouterr().out.splitlines() == [
        f"imported:mine  ratings {digest}",
        f"imported:other  ratings {digest}",
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--defense", "rmf+rvd"], "rmf trains, and imported:mine is trained: use --defense rvd"),
        (["--model", "imported:other"], "has no imported model 'other' (it has mine)"),
        (["--dataset", "synthetic:90x130"], "without ids, and these ratings have 130"),
    ],
)
def test_what_it_cannot_be_asked_is_one_clear_line(
    folder: Path, options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring() == 0
    command = ["evaluate", "--dataset", DATASET, "--model", "imported:mine", "--store", "store"]
    assert run([*command, *SMALL, "--attack", "average", *options]) == 2
    assert line in capsys.readouterr().err


def test_it_is_not_trained_again(folder: Path) -> None:
    assert bring() == 0
    command = [
        "serve",
        "--open",
        "--dataset",
        DATASET,
        "--model",
        "imported:mine",
        "--store",
        "store",
    ]
    done = subprocess.run(
        module_command("sims.cli", *command, "--retrain-every", "5"),
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "imported:mine is not trained here: leave out --retrain-every" in done.stderr


@pytest.mark.slow
def test_devices_are_answered_with_an_imported_model(folder: Path) -> None:
    assert bring("--json", "told.json") == 0
    version = json.loads((folder / "told.json").read_text())["version"]
    os.environ.pop("GRPC_VERBOSITY", None)
    options = ["--dataset", DATASET, "--model", "imported:mine", "--store", str(folder / "store")]
    served = ServeProcess(Children(folder), folder, options)
    served.start()
    try:
        served.wait(240)
        at = ["--server", served.address, "--ratings", str(served.ratings)]
        command = ["device", "--users", "0-9", *at, "--store", "device", "--json", "device.json"]
        assert run(command) == 0
        told = json.loads((folder / "device.json").read_text())
        assert told["users"] == 10
        assert told["version"] == version
    finally:
        served.kill()


def test_only_a_model_of_the_ratings_as_they_are_is_offered_to_be_served(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring() == 0
    assert "serve it: " in capsys.readouterr().out
    assert bring("--hold-out") == 0
    assert "serve it: " not in capsys.readouterr().out
