"""Per-user files: what is written is read back, compared, and refused when it is another."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from common.errors import InputError
from sims.evaluation.pairing import UserResults, paired
from sims.evaluation.per_user import CALLED, SCHEMA, read_per_user, results_of, write_per_user
from sims.evaluation.report import Evaluation
from sims.evaluation.study import Study, evaluate

SMALL = Study(
    "synthetic:80x120", attack="average", attack_size=0.1, k=10, min_support=2, steps=2, users=40
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def defended(store: Path) -> Evaluation:
    return evaluate(SMALL, store, processes=1)


@pytest.fixture(scope="module")
def frame(defended: Evaluation) -> pl.DataFrame:
    return defended.per_user()


def results(frame: pl.DataFrame, condition: str = "defended") -> UserResults:
    return results_of(frame, condition)


def test_a_file_is_read_back_as_it_was(
    defended: Evaluation, frame: pl.DataFrame, tmp_path: Path
) -> None:
    write_per_user(tmp_path / "a.parquet", frame)
    found = read_per_user(tmp_path / "a.parquet")
    assert found.equals(frame) and found.schema == SCHEMA | CALLED
    assert len(found) == 40 * (5 + 2)
    for condition, outcomes in defended.outcomes.items():
        back = results(found, condition).outcomes
        assert back.counts == outcomes.counts
        for name in ("users", "ranks", "liked", "target_ranks", "lengths", "unsupported"):
            np.testing.assert_array_equal(getattr(back, name), getattr(outcomes, name))
    again = results(found).population
    np.testing.assert_array_equal(again.groups, defended.scores.population.groups)
    assert again.inside is None and again.goal == "promote"


def test_rows_say_what_counts_say(defended: Evaluation, frame: pl.DataFrame) -> None:
    rows = frame.filter(pl.col("condition") == "defended")
    counts = defended.counts["defended"]
    assert rows["hits"].sum() == sum(counts.hits)
    assert rows["eligible"].sum() == sum(counts.eligible)
    found = rows["rank"].is_between(1, 50).sum()
    assert found == counts.user_hits and rows["liked"].sum() == counts.liked
    told = defended.to_json()
    share = sum(rows["unsupported"].to_list()) / sum(rows["shown"].to_list())
    assert told["unsupported_share"]["defended"] == pytest.approx(share)
    assert told["unsupported_share"]["undefended"] is None
    assert frame.filter(pl.col("condition") == "ease")["unsupported"].null_count() == 40


def test_two_results_are_compared_user_by_user(defended: Evaluation, store: Path) -> None:
    other = evaluate(replace(SMALL, defense="none"), store, processes=1)
    found = defended.against(other)
    by_metric = {one.metric: one for one in found.differences}
    mine, theirs = defended.to_json(), other.to_json()
    for metric, one in by_metric.items():
        assert one.first == pytest.approx(mine[metric]["defended"])
        assert one.second == pytest.approx(theirs[metric]["defended"])
        assert one.difference == pytest.approx(one.second - one.first)
        assert one.low <= one.difference <= one.high and 0 < one.p <= 1
    accuracy = by_metric["accuracy"]
    assert accuracy.only_first is not None and accuracy.only_second is not None
    gap = accuracy.only_second - accuracy.only_first
    assert gap / 40 == pytest.approx(accuracy.difference)
    same = defended.against(defended)
    assert {(one.difference, one.p) for one in same.differences} == {(0.0, 1.0)}
    assert found.frame()["metric"].to_list() == list(by_metric)
    assert "40 users" in str(found) and "<table>" in found._repr_html_()
    assert all(len(line) <= 80 for line in str(found).splitlines())


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 1}, "of other ratings and targets and users"),
        ({"targets": (3,)}, "of other targets"),
        ({"users": 30}, "of other users"),
        ({"list_length": 20}, "of other list length"),
    ],
)
def test_results_of_something_else_are_refused(
    defended: Evaluation, store: Path, change: dict[str, Any], line: str
) -> None:
    other = evaluate(replace(SMALL, **change, baselines=()), store, processes=1)
    with pytest.raises(InputError, match=line):
        defended.against(other)


def test_another_condition_is_named(frame: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="unknown condition 'defendet': did you mean defended"):
        results(frame, "defendet")


@pytest.mark.parametrize(
    ("column", "value", "line"),
    [
        ("rank", -3, "below 0"),
        ("user", 0, "two rows of one condition"),
        ("target_ranks", [1], "not one for each target"),
        ("seed", None, "of several evaluations"),
        ("goal", "praise", "goal or list length"),
        ("liked", None, "lacks a number"),
        ("unsupported", 99, "contradicts itself"),
        ("shown", 99, "contradicts itself"),
        ("hits", 5, "contradicts itself"),
        ("eligible", -1, "contradicts itself"),
        ("format", 9, "per-user results of format 9"),
    ],
)
def test_rows_that_cannot_be_are_refused(
    frame: pl.DataFrame, column: str, value: Any, line: str
) -> None:
    wrong = frame.with_columns(pl.lit(value, dtype=SCHEMA[column]).alias(column))
    with pytest.raises(InputError, match=line):
        results(wrong)


def test_what_a_file_says_of_itself_commands_no_terminal(frame: pl.DataFrame) -> None:
    label = results(frame.with_columns(dataset=pl.lit("a\x1b]0;title\x07"))).label
    assert label.startswith(r"a\x1b]0;title\x07 ·")


@pytest.mark.filterwarnings("error")
def test_a_rank_at_the_end_of_its_type_is_a_rank(frame: pl.DataFrame) -> None:
    last = frame.with_columns(pl.lit(2**31 - 1, dtype=pl.Int32).alias("rank"))
    compared = paired(results(last), results(last))
    assert {one.metric: one.first for one in compared.differences}["ndcg_10"] == 0


def test_disagreement_about_the_same_ratings_is_damage(frame: pl.DataFrame) -> None:
    wrong = frame.with_columns(pl.lit(False).alias("liked"))
    with pytest.raises(InputError, match="disagree about them"):
        paired(results(frame), results(wrong))


def written(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def test_other_files_are_refused_in_a_line(frame: pl.DataFrame, tmp_path: Path) -> None:
    whole = written(frame)
    files = {
        "text": (b"user,item\n", "not a parquet file"),
        "empty": (b"", "not a parquet file"),
        "cut": (whole[: len(whole) // 2], "not a parquet file"),
        "other": (written(pl.DataFrame({"user": [1]})), "its column condition is missing"),
        "typed": (
            written(frame.with_columns(pl.col("rank").cast(pl.String))),
            "its column rank is of another type",
        ),
    }
    for name, (data, line) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=line):
            read_per_user(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_per_user(tmp_path / "missing")


def test_wrong_bytes_are_refused_and_nothing_dies(frame: pl.DataFrame, tmp_path: Path) -> None:
    whole, rng = bytearray(written(frame.head(80))), np.random.default_rng(0)
    path = tmp_path / "a.parquet"
    for _ in range(8):
        wrong = whole.copy()
        for at in rng.integers(4, len(whole), 6):
            wrong[at] = rng.integers(256)
        path.write_bytes(wrong)
        try:
            results_of(read_per_user(path), "clean", name="a")
        except InputError as error:
            assert len(str(error).splitlines()) == 1
