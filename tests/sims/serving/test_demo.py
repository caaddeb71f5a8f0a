"""The demo, with the processes that it really starts."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from common.errors import InputError
from common.vicinal.settings import preset
from server.data import sources
from server.data.reading_options import ReadingOptions
from server.recommending.book import BookSettings
from server.versions.books import noise_key
from sims import recorded
from sims.commands.demo import ROWS, new_folder
from sims.evaluation import cell
from sims.evaluation.experiment import Experiment
from sims.evaluation.study import Study, evaluate
from sims.processes.marked import marked_processes
from sims.serving.demo import KEYS, SHOWN, choose_experiment, configuration
from tests.support.result_keys import differences

# The vicinal preset takes more neighbors than a smaller one has users.
SMALL = "synthetic:350x300x8400"


def start(runs: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sims.cli", "demo", "--runs", str(runs), *arguments]
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def mark(runs: Path) -> str:
    return f"VICINAL_RUN={next(runs.iterdir()).resolve()}"


def test_demos_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    names = [new_folder(tmp_path / "runs", now).name for _ in range(3)]
    assert names == [f"20260102-030405-demo{end}" for end in ("", "-2", "-3")]


@pytest.mark.parametrize("reading", [ReadingOptions(), ReadingOptions(drop_ratings=(0.0,))])
def test_a_configuration_is_toml_whatever_is_left_open(reading: ReadingOptions) -> None:
    written = tomllib.loads(configuration(Experiment(dataset="ml-100k", reading=reading)))
    assert written["experiment"]["dataset"] == "ml-100k"
    assert written["experiment"].get("reading", {}) == reading.told()
    assert set(written["presets"]) == set(SHOWN)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of one demo that ran to its end, and what it printed."""
    runs = tmp_path_factory.mktemp("demo")
    process = start(runs, "--dataset", SMALL)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    yield next(runs.iterdir()), output


@pytest.mark.slow
def test_the_demo_writes_results_config_and_a_picture(finished: tuple[Path, str]) -> None:
    folder, output = finished
    results = json.loads((folder / "results.json").read_text())
    names = {"ROW": ROWS, "PRESET": SHOWN, "NAME": results["run"]["versions"]}
    assert differences(results, KEYS | recorded.KEYS, **names) == set()
    conditions = {"clean", "undefended", "defended_vicinal", "popularity", "userknn", "ease"}
    for part in ("hit_ratio", "accuracy", "accuracy_thresholded"):
        assert set(results[part]) == conditions
    assert results["users"] == 350
    assert results["hit_ratio"]["defended_vicinal"] <= results["hit_ratio"]["undefended"]
    # Packed, a float takes less than four bytes.
    assert results["bytes"]["cold"] > 300 * 64 * 3
    assert tomllib.loads((folder / "config.toml").read_text())["experiment"]["dataset"] == SMALL
    assert (folder / "before-and-after.png").read_bytes().startswith(b"\x89PNG")
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.slow
def test_a_demo_with_a_book_counts_what_an_evaluation_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(tmp_path / "runs", "--dataset", SMALL, "--release", "book")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    (folder,) = (tmp_path / "runs").iterdir()
    results = json.loads((folder / "results.json").read_text())
    assert (results["release"], "from a book" in output) == ("book", True)
    assert "server" not in results["latency_seconds"]["vicinal"]
    assert results["bytes"]["per_request_vicinal"] == 0
    key = cell.book_key(0)
    how = BookSettings.of(preset("vicinal").tolerated_fakes(results["users"] + 10))
    noise = noise_key(sha256(key).digest(), how)
    monkeypatch.setattr(cell, "book_key", lambda _seed: noise)
    found = evaluate(Study(dataset=SMALL, release="book"), tmp_path / "store", processes=1)
    counts = found.outcomes["defended"].counts
    assert results["hit_ratio"]["defended_vicinal"] == pytest.approx(counts.hit_ratio)
    assert results["accuracy"]["defended_vicinal"] == counts.accuracy > 0


@pytest.mark.slow
def test_the_demo_leaves_no_process(finished: tuple[Path, str]) -> None:
    assert not marked_processes(f"VICINAL_RUN={finished[0].resolve()}")


@pytest.mark.slow
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path) -> None:
    process = start(tmp_path, "--dataset", SMALL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/port")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert marked_processes(mark(tmp_path))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not marked_processes(mark(tmp_path))


def test_without_a_source_the_demo_says_why_and_takes_synthetic_ratings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    monkeypatch.setenv("VICINAL_CACHE", str(tmp_path))
    # Nothing listens on port 9 of this machine.
    dead = sources.HttpFile("a dead source", "http://127.0.0.1:9/ml-100k.zip", "0" * 32, "x.zip")
    monkeypatch.setitem(sources.SOURCES, "ml-100k", (dead,))
    experiment, substitute = choose_experiment("ml-100k", 0)
    assert experiment.dataset == "synthetic"
    assert experiment.targets is None
    assert substitute is not None
    assert "a dead source" in substitute.reason


def test_a_data_set_that_cannot_be_used_is_no_reason_for_synthetic_ratings(tmp_path: Path) -> None:
    broken = tmp_path / "ratings.csv"
    broken.write_text("user,item,rating\n1,2,many\n")
    with pytest.raises(InputError):
        choose_experiment(str(broken), 0)
