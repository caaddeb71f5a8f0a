"""What a grid's page says: the claims, counted by hand, and the marks in its tables."""

from pathlib import Path
from typing import Any

import pytest

from common.errors import InputError
from sims.grid.config import GridConfig
from sims.grid.overview import overview
from sims.grid.page import page_of
from sims.grid.results import CELLS, CellResult, GridRun, add_run, runs_in
from sims.grid.summary import claims, markdown, means_of
from tests.support.grid_results import CONDITIONS
from tests.support.grid_results import result as cell

BAD = dict.fromkeys(CONDITIONS, 0.9)

CONFIG = GridConfig(title="By hand", datasets=["ml-100k"], attacks=["aush", "tna"])


def result(defended: float, accuracy: float, **changed: Any) -> CellResult:
    """Clean 0.01, undefended 0.95, popularity 0; accuracies 0.3, 0.25 and 0.4."""
    return cell(
        **{
            "preset": "vicinal",
            "k": 200,
            "unrated_weight": 0.4,
            "steps": 4,
            "hit_ratio": {
                "clean": 0.01,
                "undefended": 0.95,
                "defended": defended,
                "popularity": 0.0,
            },
            "accuracy": {
                "clean": 0.3,
                "undefended": 0.25,
                "defended": accuracy,
                "popularity": 0.4,
            },
            **changed,
        }
    )


# Means over seeds: aush 0.05 and 0.45, tna 0.07 and 0.2.
RESULTS = [
    result(0.02, 0.5),
    result(0.08, 0.4, seed=1),
    result(0.07, 0.2, attack="tna"),
    result(0.95, 0.25, attack="tna", defense="none", preset=""),
    result(0.5, 0.2, attack="tna", seed=1, error="lost"),
]


def test_means_leave_out_what_failed() -> None:
    aush, tna, none = means_of(RESULTS)
    assert aush.hit_ratio["defended"] == pytest.approx(0.05)
    assert aush.robust and aush.accurate
    assert tna.hit_ratio["defended"] == 0.07
    assert not tna.robust and not tna.accurate
    assert none.defense == "none"


def test_claims_say_how_many_hold_and_which_do_not() -> None:
    found = {claim.sentence: claim for claim in claims(RESULTS)}
    robust = found["rvd (vicinal): hit ratio at most the clean model's + 0.05"]
    assert (robust.cells, robust.misses) == (2, ("ml-100k · mf · tna (0.070, clean 0.010)",))
    accurate = found["rvd (vicinal): accuracy at least the undefended model's"]
    assert accurate.misses == ("ml-100k · mf · tna (0.200, undefended 0.250)",)
    popular = found["rvd (vicinal): accuracy above popularity ranking's"]
    assert popular.misses == ("ml-100k · mf · tna (0.200, popularity 0.400)",)
    # The paper: 0.069 and 0.012.
    assert found["rvd (vicinal): hit ratio at most the paper's + 0.1"].misses == ()
    assert found["undefended: hit ratio at least 0.9"].misses == ()
    text = markdown(list(found.values()))
    assert "at most the clean model's + 0.05 | 1 (50%) | 2 |" in text
    assert "the paper's + 0.1 | 2 (100%) | 2 |" in text


def test_the_page_tells_command_duration_marks_and_failures(tmp_path: Path) -> None:
    (tmp_path / CELLS).mkdir()
    add_run(tmp_path, seconds=61, processes=2)
    add_run(tmp_path, seconds=120, processes=2)
    page = page_of(CONFIG, RESULTS, command="vicinal grid x.toml", runs=runs_in(tmp_path))
    assert page.startswith("# By hand\n")
    told = "`vicinal grid x.toml`: 5 cells, all users, seeds 0, 3 min in 2 runs, 2 cells at a time."
    assert told in page
    assert "0.070 (0.012) †" in page
    assert "0.200 (0.231) †" in page
    assert "0.950 (0.995)" in page.replace("**", "") and "0.950 (0.995) †" not in page
    assert "- ml-100k · mf · tna · rvd (vicinal, k = 200, α = 0.4) · seed 1: lost" in page


def test_a_damaged_log_of_runs_is_said(tmp_path: Path) -> None:
    assert runs_in(tmp_path) == []
    add_run(tmp_path, seconds=1, processes=1)  # no results yet
    assert runs_in(tmp_path) == []
    (tmp_path / "runs.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="damaged"):
        runs_in(tmp_path)
    assert GridRun(seconds=0, processes=1).processes == 1


def test_claims_against_the_best_baseline_and_inside_a_group() -> None:
    bounds = {"accuracy": {"defended": (0.25, 0.35)}}
    beside = {"ease": {"accuracy": 0.36}, "userknn": {"accuracy": 0.2}}
    shares = {"hit_ratio_inside": {"defended": 0.2}}
    told = markdown(claims([cell(intervals=bounds, baselines=beside, **shares)]))
    assert "ml-100k · mf · aush (0.300 ± 0.050, ease 0.360)" in told
    assert "ml-100k · mf · aush (0.200)" in told
    beside["ease"]["accuracy"] = 0.34
    told = markdown(claims([cell(intervals=bounds, baselines=beside, **shares)]))
    assert "less half an interval | 1 (100%) | 1 |" in told


def test_the_overview_is_over_attacks_and_has_each_baseline_once() -> None:
    ease = {"ease": {"hit_ratio": 0.1, "accuracy": 0.5, "recall_10": 0.3}}
    worse = {"ease": {"hit_ratio": 0.3, "accuracy": 0.5, "recall_10": 0.1}}
    found = [
        cell(attack="aush", hit_ratio=0.2, accuracy=0.4, baselines=ease),
        cell(attack="aush", hit_ratio=0.4, accuracy=0.4, seed=1, baselines=ease),
        cell(attack="pga", hit_ratio=0.1, accuracy=0.6, baselines=worse),
        cell(attack="pga", model="nsvd", hit_ratio=0.0, accuracy=0.6, baselines=worse),
        cell(attack="none", hit_ratio=0.9, accuracy=0.0),
    ]
    assert overview(found).splitlines()[4:] == [
        "| ease | 0.200 | 0.300 | – | 0.500 | 0.200 | – | – |",
        "| mf, rvd (paper, k = 12, α = 0) | 0.200 | 0.300 | 100% of 3 | 0.500 | – | – | – |",
        "| nsvd, rvd (paper, k = 12, α = 0) | 0.000 | 0.000 | 100% of 1 | 0.600 | – | – | – |",
    ]
    assert overview([cell(attack="none")]) == ""


def test_claims_of_an_ablation_are_apart() -> None:
    found = [
        cell(preset="vicinal", assumed_fakes=0.1, neighbors_by="ratings", hit_ratio=0.0),
        cell(preset="vicinal", neighbors_by="random", hit_ratio={**BAD, "clean": 0.0}),
    ]
    told = markdown(claims(found))
    assert "| rvd (vicinal, by ratings, φ = 10 %): hit ratio at most the clean" in told
    held = [line for line in told.splitlines() if "clean model's + 0.05 |" in line]
    assert [line.split("|")[2].strip() for line in held] == ["1 (100%)", "0 (0%)"]


def test_what_is_kept_out_is_counted_by_seed_and_release_among_whom_an_attack_aims_at() -> None:
    def seen(defended: float, **changed: Any) -> CellResult:
        shares = {"clean": 0.1, "undefended": 0.9, "defended": defended}
        return cell(preset="vicinal", hit_ratio=shares, **changed)

    aimed = {"clean": 0.5, "undefended": 0.9, "defended": 0.56}
    books = [
        seen(0.15, release="book"),
        seen(0.16, release="book", seed=1),
        # Of everybody few see the targets, of those whom it aims at too many more than before.
        seen(0.0, release="book", attack="flood", hit_ratio_inside=aimed),
        # More than everybody sees without an attack, and no more than these users did.
        seen(0.0, release="book", attack="group", hit_ratio_inside={**aimed, "defended": 0.54}),
    ]
    rows = [seen(0.12), seen(0.13, seed=1), seen(0.0, hit_ratio_inside={"defended": None})]
    assert [one.kept_out for one in books] == [True, False, False, True]
    assert [one.kept_out for one in rows] == [True] * 3
    assert seen(0.1, error="lost").kept_out and cell(hit_ratio={"clean": 0.1}).kept_out is None
    told = overview([*books, *rows]).splitlines()
    assert told[2].split("|")[4].strip() == "≤ clean + 0.05"
    assert [line.split("|")[4].strip() for line in told[4:]] == ["50% of 4", "100% of 3"]
    claimed = [line.split(":")[0] for line in markdown(claims([*books, *rows])).splitlines()]
    assert "| rvd (vicinal, book)" in claimed and "| rvd (vicinal, rows)" in claimed


def test_what_looks_wrong_in_the_ratings_is_said_once_a_data_set(tmp_path: Path) -> None:
    (tmp_path / CELLS).mkdir()
    doubtful = [
        one.model_copy(update={"warnings": [{"code": "constant", "text": "all ratings are 1"}]})
        for one in RESULTS
    ]
    page = page_of(CONFIG, doubtful, command="vicinal grid x.toml", runs=runs_in(tmp_path))
    names = {one.dataset for one in RESULTS}
    assert page.count("### Warnings") == 1
    assert page.count(": all ratings are 1") == len(names)
    assert "### Warnings" not in page_of(CONFIG, RESULTS, command="", runs=runs_in(tmp_path))
