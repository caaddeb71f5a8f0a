"""Tables of a grid's results, from results made by hand."""

import io
import json
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from common.errors import InputError
from sims.grid.config import GridConfig
from sims.grid.results import (
    CellResult,
    read_result,
    read_results,
    write_parquet,
)
from sims.grid.table import failures, pages
from tests.support.grid_results import filled, result

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
        ('{"format": 4}', "format 4, written by another version"),
        ("{", "damaged"),
        ('{"format": 1}', "damaged (dataset: Field required)"),
        ('{"format": 2}', "damaged (dataset: Field required)"),
        ('{"format": 3}', "damaged (dataset: Field required)"),
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


def test_what_was_asked_tells_rows_apart() -> None:
    near = [result(preset="vicinal", neighbors_by=space) for space in ("ratings", "random")]
    rows = pages(CONFIG, [*near, result(preset="vicinal", assumed_fakes=0.1)])[0].rows
    assert [name for name, _ in rows[-3:]] == [
        "mf, rvd (vicinal, k = 12, by ratings, α = 0)",
        "mf, rvd (vicinal, k = 12, by random, α = 0)",
        "mf, rvd (vicinal, k = 12, α = 0, φ = 10 %)",
    ]


def test_a_table_for_each_metric() -> None:
    config = CONFIG.model_copy(update={"metrics": ["recall_10", "hit_ratio_inside"]})
    shares = {"recall_10": {"clean": 0.2, "defended": 0.25}, "hit_ratio_inside": {"defended": None}}
    recall, inside = pages(config, [result(**shares, baselines={"ease": {"recall_10": 0.5}})])
    assert recall.heading == "ml-100k: Recall in lists of 10 (higher is better)"
    assert [(name, entries[0].text) for name, entries in recall.rows] == [
        ("mf, not attacked", "0.200"),
        ("mf, ease", "0.500"),
        ("mf, rvd (paper, k = 12, α = 0)", "0.250"),
    ]
    assert {entries[0].text for _, entries in inside.rows} == {"–"}
