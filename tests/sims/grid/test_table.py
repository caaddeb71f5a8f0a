"""Tables and pictures of a grid's results, from results made by hand."""

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from common.errors import InputError
from sims.cli import run
from sims.grid.config import GridConfig
from sims.grid.results import (
    CELLS,
    CellResult,
    read_result,
    read_results,
    write_parquet,
    write_result,
)
from sims.grid.table import failures, pages

CONDITIONS = ("clean", "clean_defended", "undefended", "defended", "popularity")


def result(**changed: Any) -> CellResult:
    hit_ratio, accuracy = changed.pop("hit_ratio", 0.01), changed.pop("accuracy", 0.3)
    fields: dict[str, Any] = {
        "format": 1,
        "dataset": "ml-100k",
        "model": "mf",
        "attack": "aush",
        "defense": "rvd",
        "preset": "paper",
        "seed": 0,
        "k": 12,
        "unrated_weight": 0.0,
        "steps": 25,
        "list_length": 50,
        "attack_size": 0.03,
        "users": 10,
        "hit_ratio": dict.fromkeys(CONDITIONS, hit_ratio),
        "accuracy": dict.fromkeys(CONDITIONS, accuracy),
        "seconds": {"per_user_p50": 0.01},
    }
    return CellResult.model_validate({**fields, **changed})


CONFIG = GridConfig(datasets=["ml-100k"], attacks=["aush", "vicinity"], metrics=["hit_ratio"])


def row(results: list[CellResult]) -> str:
    """The last line of the first table."""
    return pages(CONFIG, results)[0].markdown().strip().splitlines()[-1]


def test_better_than_the_paper_is_bold() -> None:
    # The paper: 0.069.
    assert "| **0.010 (0.069)** | – |" in row([result()])
    assert "| 0.300 (0.069) | – |" in row([result(hit_ratio=0.3)])
    assert "| 0.069 (0.069) | – |" in row([result(hit_ratio=0.0688)])


def test_accuracy_is_better_when_it_is_higher() -> None:
    config = CONFIG.model_copy(update={"metrics": ["accuracy"]})
    # The paper: 0.204.
    lines = pages(config, [result(accuracy=0.3)])[0].markdown().splitlines()
    assert "**0.300 (0.204)**" in lines[-1]
    assert "popularity ranking | 0.300 |" in lines[-2]


def test_seeds_are_averaged_and_failures_said() -> None:
    several = [result(seed=seed, hit_ratio=value) for seed, value in enumerate((0.0, 0.02))]
    assert "**0.010 ± 0.014 (0.069)**" in row(several)
    failed = result(seed=2, error="no memory")
    assert "0.010 ± 0.014 (0.069), 1 failed" in row([*several, failed])
    assert failures([*several, failed]) == [
        "ml-100k · mf · aush · rvd (paper, k = 12, α = 0) · seed 2: no memory"
    ]
    assert "| failed | – |" in row([failed])


def test_an_attack_that_the_paper_has_not() -> None:
    assert "| – | 0.010 |" in row([result(attack="vicinity")])


def filled(folder: Path, results: list[CellResult]) -> Path:
    for number, one in enumerate(results):
        write_result(folder / CELLS / f"{number}.json", one)
    return folder


def test_results_survive_a_file_and_become_parquet(tmp_path: Path) -> None:
    results = [result(), result(seed=1, error="x")]
    assert read_results(filled(tmp_path, results)) == results
    write_parquet(tmp_path / "results.parquet", results)
    table = pl.read_parquet(tmp_path / "results.parquet")
    assert table["hit_ratio_defended"].to_list() == [0.01, 0.01]
    assert table["error"].to_list() == ["", "x"]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ('{"format": 2}', "format 2, written by another version"),
        ("{", "damaged"),
        ('{"format": 1}', "damaged (dataset: Field required)"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, data: str, line: str) -> None:
    path = tmp_path / "cell.json"
    path.write_text(data)
    with pytest.raises(InputError) as caught:
        read_result(path)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_a_hit_ratio_above_one_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    values = result().model_dump()
    values["hit_ratio"]["defended"] = 7
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="damaged"):
        read_result(path)


ABLATION = [
    result(attack=attack, k=k, hit_ratio=0.1 / k, unrated_weight=weight)
    for attack in ("aush", "tna")
    for k, weight in ((6, 0.0), (12, 0.1), (25, 0.5))
]


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.parametrize(
    ("name", "results"),
    [("k-ablation", ABLATION), ("alpha-ablation", ABLATION), ("before-after", [result()])],
)
def test_figures(tmp_path: Path, name: str, results: list[CellResult], kind: str) -> None:
    folder, picture = filled(tmp_path / "grid", results), tmp_path / f"a.{kind}"
    assert run(["figure", name, str(folder), "-o", str(picture)]) == 0
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG") if kind == "png" else b"<svg" in data


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["k-ablatoin", "-o", "a.png"], "did you mean k-ablation?"),
        (["k-ablation", "-o", "a.pdf"], "ends in .png or .svg"),
        (["before-after", "-o", "a.png"], "choose one with --attack aush | tna"),
        (["k-ablation", "-o", "a.png", "--model", "cdae"], "no results with model cdae"),
        (["before-after", "-o", "a.png", "--attack", "tna"], "draw its ablation"),
    ],
)
def test_figures_that_cannot_be_drawn(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "grid", ABLATION)
    assert run(["figure", arguments[0], "grid", *arguments[1:]]) == 2
    errors = capfd.readouterr().err
    assert line in errors and errors.count("\n") == 1
    assert not list(tmp_path.glob("a.*"))


def test_a_narrow_terminal_shows_means_alone() -> None:
    config = GridConfig(
        datasets=["ml-100k"],
        attacks=["aush", "pga", "tna", "mixinf", "mixrand", "random", "average", "vicinity"],
        metrics=["hit_ratio"],
    )
    (page,) = pages(config, [result(attack=name, hit_ratio=0.8) for name in config.attacks])
    for width, whole in ((80, False), (200, True)):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(page.table(width))
        shown = console.export_text()
        assert max(map(len, shown.splitlines())) <= width
        assert ("0.800 (0.069)" in shown) is whole
        assert "…" not in shown and shown.count("0.800") >= 8
