"""Files of ratings through the commands: the same options everywhere, and defaults that fit."""

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import vicinal as vc
from common.errors import InputError
from server.data.ids import data_digest
from server.data.layouts import LAYOUTS
from server.data.reading_options import ReadingOptions
from server.model_store import ModelStore
from sims.cli import COMMANDS, run
from sims.commands.help import declared
from sims.commands.reading import ReadingFlags
from sims.evaluation import study as studies
from sims.evaluation.experiment import prepare
from sims.evaluation.study import Study, evaluate
from sims.grid.config import read_config
from sims.grid.results import cell_path
from sims.serving.ratings import load_ratings
from sims.serving.retraining import Spec, read_spec, write_spec

USERS, ITEMS = 60, 24
ROWS = [
    (user, item, 1 + (user * 7 + item * 5) % 5, 1_200_000_000 + 1000 * user + item)
    for user in range(USERS)
    for item in range(ITEMS)
    if (user + 2 * item) % 3
]
FEW = ("--users", "8", "--processes", "1", "--baselines", "none")


def written(path: Path, form: str = "{u},{i},{r},{t}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(form.format(u=u, i=i, r=r, t=t) for u, i, r, t in ROWS))
    return path


def evaluated(
    folder: Path, *words: str, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, Any], str]:
    told = folder / "told.json"
    named = ("--store", str(folder / "store"), "--json", str(told))
    code = run(["evaluate", *words, *FEW, *named])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    found: dict[str, Any] = json.loads(told.read_text())
    return found, " ".join(shown.out.split())


# ---- one set of options ----


def test_the_flags_are_the_options() -> None:
    names = [each.name for each in fields(ReadingFlags)]
    assert names == [each.name for each in fields(ReadingOptions)]
    assert ReadingFlags().options() == ReadingOptions()


@pytest.mark.parametrize("command", ["evaluate", "serve", "simulate", "attack", "certify", "data"])
def test_every_command_has_them(command: str) -> None:
    from importlib import import_module  # noqa: PLC0415

    commands = import_module(COMMANDS[command].module).app.registered_commands
    (found,) = (each.callback for each in commands if command != "data" or each.name == "describe")
    flags = {each.name: each for each in declared(found)}
    assert {each.name for each in fields(ReadingFlags)} <= set(flags)
    for layout in LAYOUTS:
        assert layout in (flags["format"].info.help or "")


def test_load_has_them(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", "x;{i};{u};{r}")
    loaded = vc.load(path, columns="-,item,user,rating", scale="1:8", min_ratings=2, split="random")
    assert loaded.ratings.user_count == USERS and loaded.ratings.scale.maximum == 8
    assert loaded.reading.told() == {
        "columns": ["-", "item", "user", "rating"],
        "scale": "1:8",
        "min_ratings": 2,
        "split": "random",
    }
    frame = {"who": [1, 1, 2], "what": [1, 1, 2], "stars": [1, 5, 3]}
    made = vc.load(frame, columns={"user": "who", "item": "what", "rating": "stars"},
                   duplicates="mean")  # fmt: skip
    assert made.ratings.levels.tolist() == [2, 2]
    assert vc.load(frame, columns="user=who,item=what", implicit=True).ratings.ratings.tolist() == [
        1,
        1,
    ]
    with pytest.raises(InputError, match="separator: is for files"):
        vc.load(frame, separator=";")


def test_a_result_says_how_its_ratings_were_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "g.csv", "{i};{u};{r}")
    told, shown = evaluated(
        tmp_path, "--dataset", str(path), "--columns", "item,user,rating", capsys=capsys
    )
    assert told["reading"] == {
        "options": {"columns": ["item", "user", "rating"]},
        "notes": ["fields are separated by ';' (--separator)"],
        "shift": 0.0,
    }
    assert told["warnings"] == []
    loaded = vc.load(path, columns="item,user,rating")
    assert told["data_digest"] == data_digest(loaded.ratings)
    assert "fields are separated by ';'" in shown
    ours = vc.evaluate(loaded, users=8, baselines="none").to_json()
    assert ours["hit_ratio"] == told["hit_ratio"] and ours["reading"] == told["reading"]


def test_what_looks_wrong_is_said_by_each_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "clicks.csv", "{u},{i},1")
    told, shown = evaluated(tmp_path, "--dataset", str(path), capsys=capsys)
    assert [each["code"] for each in told["warnings"]] == ["constant-ratings"]
    assert "warning: every rating is 1: interactions, not ratings?" in shown
    assert run(["data", "describe", str(path), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["warnings"] == told["warnings"]
    assert described["first_users"] == ["0", "1", "2", "3", "4"]
    assert described["levels"] == [{"rating": 1.0, "count": len(ROWS)}]
    assert run(["attack", "random", "-o", str(tmp_path / "p.csv"), "--dataset", str(path)]) == 0
    assert "warning: every rating is 1" in capsys.readouterr().err
    path = written(tmp_path / "turned.csv", "B{i:06},A{u:08},{r}")
    assert run(["data", "describe", str(path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "first users B000000, B000001" in shown and "warning users have ids as B000" in shown


# ---- a grid ----


def test_a_grid_reads_files_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "configs" / "r.csv", "{i};{u};{r}")
    config = tmp_path / "configs" / "grid.toml"
    config.write_text(
        'datasets = ["r.csv"]\nattacks = ["random"]\ndefenses = ["none"]\n'
        '[targets]\n"r.csv" = [1, 2]\n'
        '[reading."r.csv"]\ncolumns = "item,user,rating"\nmin-ratings = 2\nimplicit = true\n'
    )
    monkeypatch.chdir(tmp_path)
    (cell,) = read_config(config).cells()
    # As the current folder names it, wherever the configuration lies.
    assert cell.experiment.dataset == "configs/r.csv" and cell.experiment.targets == (1, 2)
    assert cell.experiment.reading == ReadingOptions.of(
        columns="item,user,rating", min_ratings=2, implicit=True
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    config.write_text('datasets = ["~/configs/r.csv"]\nattacks = ["random"]\ndefenses = ["none"]\n')
    (cell,) = read_config(config).cells()
    assert cell.experiment.dataset == "configs/r.csv"
    config.write_text('datasets = ["r.csv"]\nattacks = ["random"]\n[reading."r.csv"]\ncolumn = 1\n')
    with pytest.raises(InputError, match="unknown reading option 'column': did you mean columns"):
        read_config(config)
    config.write_text('datasets = ["r.csv"]\nattacks = ["random"]\n[reading."s.csv"]\n')
    with pytest.raises(InputError, match="unknown data set"):
        read_config(config)


def test_how_a_file_is_read_tells_cells_apart(tmp_path: Path) -> None:
    plain = Study(dataset="r.csv", defense="none").cell()
    read = Study(dataset="r.csv", defense="none", reading=ReadingOptions.of(scale="1:8")).cell()
    assert cell_path(tmp_path, plain) != cell_path(tmp_path, read)
    # The name of a cell as it was before there were options.
    assert cell_path(tmp_path, Study(dataset="ml-100k", defense="none").cell()).stem == (
        "3aeb7148c75d429239ca2b4a8f592774"
    )


def test_a_server_retrains_on_files_read_alike(tmp_path: Path) -> None:
    reading = ReadingOptions.of(columns="user,item", implicit=True, drop_ratings="0", scale=None)
    experiment = Study(dataset="r.csv", reading=reading, targets=(1,)).cell().experiment
    spec = Spec(experiment, tmp_path / "store")
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec


# ---- splits ----


def test_the_latest_rating_is_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "r.csv")
    told, shown = evaluated(
        tmp_path, "--dataset", str(path), "--split", "latest", "--attack", "none", capsys=capsys
    )
    assert told["split"] == "latest" and "own latest split" in shown
    assert run(["evaluate", "--dataset", str(path), "--split", "given", *FEW]) == 2
    assert "give the ratings to hold out with --test FILE" in capsys.readouterr().err


def test_a_test_file_is_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = {u: f"{u},{i},{r},{t}" for u, i, r, t in ROWS}
    path, test = tmp_path / "r.csv", tmp_path / "t.csv"
    path.write_text(
        "\n".join(f"{u},{i},{r},{t}" for u, i, r, t in ROWS if held[u] != f"{u},{i},{r},{t}")
    )
    test.write_text("\n".join(held.values()))
    words = ("--dataset", str(path), "--test", str(test), "--attack", "none")
    told, shown = evaluated(tmp_path, *words, capsys=capsys)
    assert told["split"] == "given" and "given split" in shown
    assert told["reading"]["options"] == {"test": str(test)}


# ---- implicit feedback ----


@pytest.mark.parametrize("attack", ["mixrand", "nuke", "aush", "average"])
@pytest.mark.parametrize("model", ["ease", "ials"])
def test_interactions_are_evaluated(
    tmp_path: Path, model: str, attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "c.csv", "{u},{i}")
    words = ("--dataset", str(path), "--implicit", "--model", model, "--attack", attack)
    told, _ = evaluated(tmp_path, *words, "--list-length", "5", capsys=capsys)
    assert told["warnings"] == []
    # Every held-out item was met, and that is all that can be liked.
    assert told["accuracy_thresholded"] == told["accuracy"]


def test_a_model_of_ratings_is_doubted_without_ratings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "c.csv", "{u},{i}")
    told, _ = evaluated(tmp_path, "--dataset", str(path), "--implicit", capsys=capsys)
    assert [each["code"] for each in told["warnings"]] == ["implicit-model"]


# ---- defaults that fit ----


def test_without_unpopular_items_the_least_popular_are_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "r.csv")
    told, shown = evaluated(tmp_path, "--dataset", str(path), "--k", "500", capsys=capsys)
    loaded = vc.load(path)
    counts = loaded.ratings.item_counts()
    assert len(told["targets"]) == 5
    # One rating of a user is held out, so that counts are a little lower than these.
    assert max(counts[told["targets"]]) <= sorted(counts)[8]
    assert any("the targets are the least popular ones, with" in note for note in told["notes"])
    # k is never above the users.
    assert told["k"] == USERS and any("k" in note for note in told["notes"])
    assert any("a list of 50 is more than half of the 24 items" in note for note in told["notes"])
    assert "the targets are the least popular ones" in shown


def test_a_profile_without_room_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tail.csv"
    path.write_text(
        "\n".join([f"u{n},i{n % 30},{1 + n % 5}" for n in range(80)] + ["u0,i9,3", "u1,i8,2"])
    )
    words = ["evaluate", "--dataset", str(path), *FEW, "--store", str(tmp_path / "store")]
    assert run(words) == 2
    told = capsys.readouterr().err
    assert "has no room for 5 targets: name fewer with --targets, as --targets " in told
    assert "or leave out users and items of few ratings with --min-ratings 5" in told
    fewer = told.split("--targets ")[-1].split(",")[0]
    assert run([*words, "--targets", fewer, "--attack", "targets-only"]) == 0
    path.write_text("\n".join(f"u{n},i{n % 30},{1 + n % 5}" for n in range(80)))
    assert run(words) == 2
    assert "no user has two ratings" in capsys.readouterr().err


# ---- ids ----


def test_targets_go_by_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "shop.csv", "A{u:04},B{i:04},{r},{t}")
    words = ("--dataset", str(path), "--attack", "random", "--list-length", "5")
    by_id, _ = evaluated(tmp_path, *words, "--targets", "id:B0007,id:B0003", capsys=capsys)
    assert by_id["targets"] == [7, 3] and by_id["target_ids"] == ["B0007", "B0003"]
    by_index, _ = evaluated(tmp_path, *words, "--targets", "7,3", capsys=capsys)
    when = {"seconds": 0, "run": {}}
    assert {**by_index, **when} == {**by_id, **when}
    for wrong, message in (
        ("id:b0007", "targets: no item has the id 'b0007': did you mean B0007"),
        ("B7", "or ids, as in id:ALICE"),
    ):
        assert run(["evaluate", *words, "--targets", wrong]) == 2
        assert message in capsys.readouterr().err
    assert run(["evaluate", "--dataset", "synthetic:20x30", "--targets", "id:3"]) == 2
    assert "these items have no ids" in capsys.readouterr().err
    # A server, and a grid.
    asked = Study(dataset=str(path), attack="none", targets=("id:B0007",)).cell().experiment
    source, _ = load_ratings(asked, hold_out=False)
    assert source.watched == (7,)
    config = tmp_path / "grid.toml"
    config.write_text(
        'datasets = ["shop.csv"]\nattacks = ["random"]\ndefenses = ["none"]\n'
        '[targets]\n"shop.csv" = ["id:B0007"]\n'
    )
    (cell,) = read_config(config).cells()
    assert prepare(cell.experiment).watched == (7,)


def test_ids_are_written_by_index(tmp_path: Path) -> None:
    path = written(tmp_path / "shop.csv", 'A{u:04},"B,{i:04}",{r}')
    output = tmp_path / "ids.csv"
    assert run(["data", "ids", str(path), "-o", str(output)]) == 0
    lines = output.read_text().splitlines()
    assert lines[:2] == ["kind,index,id", "user,0,A0000"]
    assert lines[-1] == f'item,{ITEMS - 1},"B,{ITEMS - 1:04}"'
    assert len(lines) == 1 + USERS + ITEMS


def test_profiles_of_other_items_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = written(tmp_path / "shop.csv", "A{u:04},B{i:04},{r},{t}")
    fakes = tmp_path / "fakes.csv"
    assert run(["attack", "random", "-o", str(fakes), "--dataset", str(shop)]) == 0
    text = shop.read_text()
    others = {
        "shuffled": "\n".join(reversed(text.splitlines())),
        "next-day": f"{text}\nA9999,B0001,5,1600000000",
        "new-item": f"A0000,AAAFIRST,5,1600000000\n{text}",
    }
    capsys.readouterr()
    for name, content in others.items():
        path = tmp_path / f"{name}.csv"
        path.write_text(content)
        asked = Study(dataset=str(path), attack=f"file:{fakes}").cell().experiment
        if name == "new-item":
            with pytest.raises(InputError, match="these profiles are of other items"):
                prepare(asked)
            continue
        codes = [doubt.code for doubt in prepare(asked).doubts]
        assert codes == (["other-profiles"] if name == "next-day" else [])
    made = vc.attack("random", vc.load(shop))
    with pytest.raises(InputError, match="these profiles are of other items"):
        vc.evaluate(vc.load(tmp_path / "new-item.csv"), attack=made, users=8)


# ---- paths and stores ----


def test_a_store_in_use_is_told_before_an_attack_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def computed(*_: Any, **__: Any) -> Any:
        raise AssertionError("an attack was computed")

    monkeypatch.setattr(studies, "prepare", computed)
    asked = Study(dataset="synthetic:20x30")
    with ModelStore(tmp_path), pytest.raises(InputError, match="is in use by process"):
        evaluate(asked, tmp_path, processes=1)


@pytest.mark.parametrize("spec", ["my data (v2)/ratings 2024.csv", "~/r.csv", "'r.csv'"])
def test_paths_as_people_write_them(
    tmp_path: Path,
    spec: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = written(tmp_path / "my data (v2)" / "ratings 2024.csv")
    shutil.copy(path, tmp_path / "r.csv")
    assert run(["data", "describe", spec, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["users"] == USERS
    assert run(["data", "describe", "my data (v2)/ratings 2025.csv"]) == 2
    assert "no such file: did you mean my data (v2)/ratings 2024.csv" in capsys.readouterr().err
