"""Every name that is chosen from a list: a typo is answered with the nearest name and the list."""

import doctest
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import common.names
from common.errors import InputError
from common.models import model_named
from common.names import nearest, unknown
from common.versions.encodings import encoding_named
from common.vicinal.settings import preset
from server.data.columns import by_names
from server.data.datasets import Dataset, load_dataset
from server.data.layouts import with_layout
from server.data.reading_options import ReadingOptions
from server.data.sources import fetch
from server.fleet.run_config import RunConfig
from server.recommending.offload import search_named
from sims.attacks import attack_named
from sims.attacks.options import choose, resolve
from sims.cli import run
from sims.evaluation.defenses import defense_named
from sims.evaluation.splits import leave_one_out
from sims.grid.config import read_config
from sims.latency.plan import Block, plan_named
from sims.load.network import network_named
from tests.common.wire.test_description import DESCRIPTION

CALLS: dict[str, tuple[Callable[[], object], str, str]] = {
    "model": (lambda: model_named("autorex"), "autorec", "cdae"),
    "model of a preset": (lambda: preset("paper", model="MF"), "mf", "nsvd"),
    "model of a plan": (lambda: Block(models=("nvsd",)), "nsvd", "cdae"),
    "preset": (lambda: preset("vicnal"), "vicinal", "paper"),
    "preset of a server": (lambda: DESCRIPTION.preset("papre"), "paper", "vicinal"),
    "encoding": (lambda: encoding_named("flaot16"), "float16", "int8"),
    "neighbor search": (lambda: search_named("extact"), "exact", "borrowed"),
    "data set": (lambda: load_dataset("ML-100K"), "ml-100k", "filmtrust"),
    "synthetic data set": (lambda: load_dataset("sythetic"), "synthetic", "yelp"),
    "data set to fetch": (lambda: fetch("ml1m", Path()), "ml-1m", "ml-100k"),
    "column": (
        lambda: by_names(["user", "item", "rating"], "a", ReadingOptions(columns=("user", "itme"))),
        "item",
        "rating",
    ),
    "format": (lambda: with_layout(ReadingOptions(format="movilens")), "movielens", "yelp"),
    "duplicates": (lambda: ReadingOptions(duplicates="lates"), "latest", "mean"),
    "time unit": (lambda: ReadingOptions(time_unit="second"), "seconds", "date"),
    "encoding of text": (lambda: ReadingOptions(encoding="utf-88"), "utf-8", "latin-1"),
    "reading option": (lambda: ReadingOptions.of(colums="a"), "columns", "scale"),
    "attack": (lambda: attack_named("averge"), "average", "vicinity"),
    "attack option": (
        lambda: resolve("vicinity", attack_named("vicinity"), {"hub": 3}),
        "hubs",
        "knowledge",
    ),
    "value of an option": (
        lambda: choose("values", "optimised", ("optimized", "normal")),
        "optimized",
        "normal",
    ),
    "defense": (lambda: defense_named("rmf+rdv"), "rvd", "apr"),
    "split": (lambda: leave_one_out(data_set(), kind="lastest"), "latest", "random"),
    "latency plan": (lambda: plan_named("fulll"), "full", "quick"),
    "network": (lambda: network_named("wfi"), "wifi", "lossy"),
    "run config": (
        lambda: RunConfig.of({"deployment": "a", "result": "b", "neighbours": 3}),
        "neighbors",
        "min-support",
    ),
}
GRID = 'datasets = ["ml-100k"]\nattacks = ["random"]\n'
TOML = {
    "key": (GRID + 'defences = ["rvd"]\n', "defenses", "list_length"),
    "metric": (GRID + 'metrics = ["hit-ratio"]\n', "hit_ratio", "accuracy"),
    "model": (GRID + 'models = ["nsdv"]\n', "nsvd", "cdae"),
    "preset": (GRID + 'presets = ["papers"]\n', "paper", "vicinal"),
    "defense": (GRID + 'defenses = ["rvb"]\n', "rvd", "none"),
    "attack": ('datasets = ["ml-100k"]\nattacks = ["avrage"]\n', "average", "none"),
    "attack option": (GRID + "[attack_options.random]\nknowlege = 1\n", "knowledge", "knowledge"),
    "data set of targets": (GRID + "[targets]\nml-10k = [1]\n", "ml-100k", "ml-100k"),
    "data set of k": (GRID + "[k.paper.ml-10k]\nmf = 3\n", "ml-100k", "ml-100k"),
    "model of k": (GRID + "[k.paper.ml-100k]\nfm = 3\n", "mf", "mf"),
}
COMMANDS = {
    "evaluate --dataset ml100k": ("ml-100k", "filmtrust"),
    "evaluate --dataset synthetic:80x9x99 --attack mixrant": ("mixrand", "file:PATH"),
    "evaluate --dataset synthetic:80x9x99 --defense rdv": ("rvd", "rmf+rvd"),
    "attack vicnity -o FILE": ("vicinity", "mixinf"),
    "data describe yepl": ("yelp", "synthetic"),
    "data fetch ml-10k": ("ml-100k", "ml-1m"),
    "figure k-ablatoin RESULTS -o a.png": ("k-ablation", "embeddings"),
    "latency --preset qick": ("quick", "full"),
    "latency --network wfi": ("wifi", "loopback"),
    "device --server 127.0.0.1:1 --users 0 --encoding int16": ("int8", "float32"),
}


def test_the_examples() -> None:
    assert doctest.testmod(common.names).failed == 0


def data_set() -> Dataset:
    loaded = load_dataset("synthetic:8x9")
    return replace(loaded, timestamps=np.zeros(len(loaded.ratings), dtype=np.int64))


def check(line: str, meant: str, other: str) -> None:
    assert f"did you mean {meant}? " in line and "\n" not in line
    _, _, choices = line.partition("? ")
    assert meant in choices and other in choices, line


@pytest.mark.parametrize("case", CALLS)
def test_a_call_names_what_was_meant(case: str) -> None:
    call, meant, other = CALLS[case]
    with pytest.raises(InputError) as caught:
        call()
    check(str(caught.value), meant, other)


@pytest.mark.parametrize("case", TOML)
def test_a_grid_s_file_names_what_was_meant(tmp_path: Path, case: str) -> None:
    text, meant, other = TOML[case]
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_config(path)
    check(str(caught.value), meant, other)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_what_was_meant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command.split()) == 2
    *_, last = capfd.readouterr().err.splitlines()
    check(last, *COMMANDS[command])
    assert list(tmp_path.iterdir()) == [], "refused before anything is made"


@pytest.mark.parametrize("name", ["", "x", "gpt", "model" * 100])
def test_nothing_is_guessed_for_what_is_far_from_all(name: str) -> None:
    assert nearest(name, ["mf", "nsvd", "autorec"]) is None
    line = str(unknown("model", name, ["mf", "nsvd", "autorec"], where="grid.toml"))
    assert line.startswith("grid.toml: unknown model '") and len(line) < 200
    assert line.endswith(": choose one of mf, nsvd, autorec")
