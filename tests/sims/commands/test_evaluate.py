"""`vicinal evaluate` and `vicinal attack`, end to end on small synthetic ratings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sims.cli import run

SMALL = ["--dataset", "synthetic:80x120", "--k", "10", "--min-support", "2", "--steps", "5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


def evaluate(folder: Path, *options: str) -> dict[str, Any]:
    """The JSON of an evaluation; models are shared between the tests of this module."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    command = ["evaluate", *SMALL, "--store", str(folder / "store"), "--json", str(result)]
    assert run([*command, *options]) == 0
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def measured(result: dict[str, Any]) -> dict[str, Any]:
    """All but the names of what was run and how long it took."""
    return {key: part for key, part in result.items() if key not in ("attack", "seconds", "run")}


@pytest.fixture(scope="module")
def reference(folder: Path) -> dict[str, Any]:
    return evaluate(folder, "--attack", "average", "--processes", "1")


def test_the_json_has_every_promised_key(reference: dict[str, Any]) -> None:
    expected = {
        "dataset": "synthetic:80x120",
        "model": "mf",
        "attack": "average",
        "defense": "rvd",
        "preset": "vicinal",
        "seed": 0,
        "k": 10,
        "users": 80,
        "split": "random",
        "list_length": 50,
        "fakes": 2,
        "min_support": 2,
        "steps": 5,
    }
    assert {key: reference[key] for key in expected} == expected
    conditions = {"clean", "clean_defended", "undefended", "defended"}
    assert set(reference["hit_ratio"]) >= conditions
    for name in ("accuracy", "accuracy_thresholded"):
        assert set(reference[name]) == {*conditions, "popularity"}
    ratios = [*reference["hit_ratio"].values(), *reference["accuracy"].values()]
    assert all(0 <= ratio <= 1 for ratio in ratios)
    per_target = reference["hit_ratio_per_target"]
    assert len(per_target) == len(reference["targets"]) == 5
    assert reference["hit_ratio"]["defended"] == pytest.approx(sum(per_target) / 5)
    assert 0 <= reference["fake_neighbor_share"] <= 2 / 81
    seconds = reference["seconds"]
    assert set(seconds) == {"train", "defend", "per_user_p50", "per_user_p99"}
    assert 0 < seconds["per_user_p50"] <= seconds["per_user_p99"] <= seconds["defend"]


def test_the_attack_changes_what_is_measured(reference: dict[str, Any]) -> None:
    # Two fakes on 80 users move every score of a target; K = 50 of 120 items shows it.
    assert reference["hit_ratio"]["undefended"] != reference["hit_ratio"]["clean"]


def test_counts_do_not_depend_on_the_processes(folder: Path, reference: dict[str, Any]) -> None:
    parallel = evaluate(folder, "--attack", "average", "--processes", "3")
    assert measured(parallel) == measured(reference)


def test_a_profiles_file_measures_as_the_attack_that_wrote_it(
    folder: Path, reference: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "profiles.csv"
    assert run(["attack", "average", "-o", str(path), "--dataset", "synthetic:80x120"]) == 0
    assert f"{path}: 2 profiles, " in capsys.readouterr().out.replace("\n", "")
    assert measured(evaluate(folder, "--attack", f"file:{path}")) == measured(reference)


def test_without_an_attack_the_attacked_model_is_the_clean_one(
    folder: Path, reference: dict[str, Any]
) -> None:
    result = evaluate(folder, "--attack", "none")
    assert result["fakes"] == 0 and result["fake_neighbor_share"] == 0
    assert result["targets"] == reference["targets"]
    for name in ("hit_ratio", "accuracy"):
        assert result[name]["undefended"] == result[name]["clean"] == reference[name]["clean"]
        assert result[name]["defended"] == result[name]["clean_defended"]


def test_without_a_defense_defended_is_undefended(folder: Path, reference: dict[str, Any]) -> None:
    result = evaluate(folder, "--attack", "average", "--defense", "none")
    for name in ("hit_ratio", "accuracy", "accuracy_thresholded"):
        assert result[name]["undefended"] == result[name]["defended"]
        assert result[name]["undefended"] == reference[name]["undefended"]
        assert result[name]["clean_defended"] == result[name]["clean"]


def test_a_sample_of_users_is_measured(folder: Path) -> None:
    result = evaluate(folder, "--attack", "average", "--users", "7")
    assert result["users"] == 7
    assert (result["accuracy"]["defended"] * 7) % 1 == pytest.approx(0, abs=1e-9)


def test_a_file_name_with_markup_is_shown_as_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder / "[" / "b].csv"
    data.parent.mkdir()
    rows = "".join(f"{u},{(u * 7 + n * n) % 40},{n % 5 + 1}\n" for u in range(40) for n in range(6))
    data.write_text("user,item,rating\n" + rows)
    options = ["--dataset", str(data), "--targets", "1", "--users", "3", "--attack", "random"]
    evaluate(folder, *options)
    assert "[/b].csv" in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--dataset", "movielens"], "unknown data set 'movielens': choose one of ml-100k"),
        (["--dataset", "synthetic:80"], "data set 'synthetic:80': write synthetic:USERSxITEMS"),
        (["--model", "mg"], "unknown model 'mg': choose one of mf"),
        (["--attack", "mixrant"], "unknown attack 'mixrant': did you mean mixrand?"),
        (["--attack", "file:/no/such"], "/no/such: no such file"),
        (["--preset", "papers"], "unknown preset 'papers'"),
        (["--defense", "rdv"], "unknown defense 'rdv': did you mean rvd?"),
        (["--k", "0", "--min-support", "1"], "k 0: give a whole number of at least 1"),
        (["--k", "1", "--min-support", "2"], "min support must lie in 1–k"),
        (["--steps", "-1"], "steps -1: give a whole number of at least 0"),
        (["--unrated-weight", "nan"], "unrated weight must lie in 0–1"),
        (["--targets", "120"], "target 120 is not an item (0–119)"),
        (["--targets", "-1"], "--targets '-1': give indices and ranges"),
        (["--targets", "120", "--attack", "none"], "target 120 is not an item (0–119)"),
        (["--targets", "5,5"], "--targets '5,5': each only once"),
        (["--targets", ""], "names no items"),
        (["--targets", "one"], "give indices and ranges, as in 0-99,120, or ids"),
        (["--attack-size", "0"], "attack size 0: choose a share of users in (0, 0.5]"),
        (["--attack-size", "0.001"], "no fake at all: raise --attack-size"),
        (["--attack-size", "0.51"], "attack size 0.51: choose a share of users"),
        (["--list-length", "0"], "list length 0: give a whole number of at least 1"),
        (["--seed", "-1"], "'--seed'"),
        (["--seed", str(2**63)], "'--seed'"),
        (["--users", "0"], "users 0: give a whole number of at least 1"),
        (["--processes", "0"], "'--processes'"),
        (["--json", "/"], "'--json'"),
        (["--json", "/dev/null"], "'--json': /dev/null is not a regular file"),
        (["--per-user", f"{__file__}/x.parquet"], "x.parquet cannot be written"),
        (["--attacks", "random"], "No such option '--attacks'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    result = tmp_path / "result.json"
    command = ["evaluate", *SMALL, "--store", str(tmp_path / "store"), "--json", str(result)]
    assert run([*command, *options]) == 2
    output, errors = capfd.readouterr()
    *progress, last = errors.splitlines()
    assert output == "" and all(one.startswith("attack mixrand") for one in progress), errors
    assert last.startswith("vicinal: error: ") and line in last
    assert list(tmp_path.iterdir()) == [], "refused before anything is made"


def test_users_of_one_rating_cannot_be_measured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.csv"
    data.write_text("user,item,rating\n" + "".join(f"{u},{u % 20},4\n" for u in range(60)))
    command = ["evaluate", "--dataset", str(data), "--targets", "0", "--attack", "none"]
    assert run([*command, "--k", "5", "--store", str(tmp_path / "store")]) == 2
    _, errors = capfd.readouterr()
    assert errors.count("\n") == 1 and "no user has two ratings" in errors
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["mixrant"], "did you mean mixrand?"),
        (["none"], "unknown attack 'none'"),
        (["file:x.csv"], "unknown attack 'file:x.csv'"),
        (["random", "--targets", "120"], "target 120 is not an item"),
        (["random", "--attack-size", "0.9"], "choose a share of users"),
    ],
)
def test_an_attack_that_cannot_be_made_writes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    path = tmp_path / "profiles.csv"
    assert run(["attack", *arguments, "-o", str(path), "--dataset", "synthetic:80x120"]) == 2
    _, errors = capfd.readouterr()
    assert errors.count("\n") == 1 and line in errors
    assert not path.exists()


def test_the_same_attack_is_the_same_file(tmp_path: Path) -> None:
    contents = set()
    for name, seed in (("a", "4"), ("b", "4"), ("c", "5")):
        command = ["attack", "mixrand", "--dataset", "synthetic:80x120", "--targets", "1,2"]
        # The ratings are of the seed too, so only the same seed can give the same bytes.
        assert run([*command, "--seed", seed, "-o", str(tmp_path / name)]) == 0
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 2


# As a full disk: no file of this process can grow over 2000 bytes. Not by a preexec_fn, which
# forks: a fork of gRPC's threads may die.
SMALL_FILES = """
import resource, signal
from sims.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
main()
"""


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line(tmp_path: Path) -> None:
    arguments = ["attack", "random", "-o", str(tmp_path / "p.csv"), "--dataset", "synthetic"]
    done = subprocess.run(
        [sys.executable, "-c", SMALL_FILES, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "vicinal: error: File too large"
    assert list(tmp_path.iterdir()) == []


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def started_evaluation(folder: Path, until: str) -> subprocess.Popen[str]:
    """An evaluation in a process group of its own that has just printed a line with `until`."""
    # Few ratings to train on, many steps to be interrupted in.
    arguments = ["evaluate", *SMALL, "--steps", "3000", "--processes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sims.cli", *arguments, "--store", str(folder / "store")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if until in line:
            return process
    raise AssertionError(f"ended with {process.wait()} before {until!r}")


def assert_ended(group: int) -> None:
    deadline = time.monotonic() + 60
    while group_is_alive(group):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)


# Workers start after the first line; after the second they are at work.
@pytest.mark.parametrize(
    "moment",
    ["train on clean ratings: done", pytest.param("recommend …", marks=pytest.mark.slow)],
)
def test_ctrl_c_leaves_no_process_and_one_line(tmp_path: Path, moment: str) -> None:
    process = started_evaluation(tmp_path, moment)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "vicinal: interrupted" and "Traceback" not in errors
    assert_ended(process.pid)


def test_a_killed_evaluation_leaves_no_process(tmp_path: Path) -> None:
    process = started_evaluation(tmp_path, "recommend …")
    process.kill()
    process.communicate(timeout=60)
    assert_ended(process.pid)


def test_k_is_capped_at_the_users_there_are_and_the_output_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result.json"
    command = ["evaluate", *SMALL, "--store", str(tmp_path / "store"), "--json", str(result)]
    note = "k = 81 is more than the 80 users there are: k = 80, min support 2"
    assert run([*command, "--k", "81", "--users", "3"]) == 0
    assert note in " ".join(capfd.readouterr().out.split())
    found = json.loads(result.read_text())
    assert (found["k"], found["min_support"], found["notes"]) == (80, 2, [note])
    assert run([*command, "--k", "81", "--users", "3", "--defense", "none"]) == 0
    assert json.loads(result.read_text())["notes"] == []


def test_seconds_are_counted_once(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = ["evaluate", *SMALL, "--store", str(tmp_path / "store"), "--json", str(result)]
    begun = time.perf_counter()
    assert run([*command, "--defense", "rmf", "--users", "3", "--processes", "1"]) == 0
    wall = time.perf_counter() - begun
    seconds = json.loads(result.read_text())["seconds"]
    # Robust training takes most of it.
    assert seconds["train"] + seconds["defend"] <= wall < 2 * seconds["train"] + 2
