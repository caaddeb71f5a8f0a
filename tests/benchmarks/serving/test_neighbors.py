"""The benchmarks of neighbor search print what they say; how long anything took is left open."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import borrowed_neighbors, neighbors, rated_neighbors
from benchmarks.serving.skewed_ratings import skewed_ratings
from benchmarks.tuning import first_request
from common.models import MODELS


@pytest.mark.slow
def test_searches_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    neighbors.main(short=True, json_file=tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {(row["users"], row["clustered"]) for row in rows} == set(neighbors.SHORT_CASES)
    assert {row["search"] for row in rows} >= {"exact", "HNSW"}
    for row in rows:
        assert set(row["recall"]) == set(map(str, neighbors.COUNTS))
        least = 1 if "exact" in row["search"] else 0.95
        assert least <= min(row["recall"].values()) <= max(row["recall"].values()) <= 1
        # Embeddings are part of every index.
        assert row["mebibytes"] > row["users"] * neighbors.WIDTH * 4 / 2**20
    printed = capsys.readouterr().out
    assert printed.count("\n| 2,000 |") == len(rows)
    assert "A list of 200 neighbors from the cache" in printed


@pytest.mark.slow
def test_first_requests_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    first_request.main(short=True)
    printed = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in printed.splitlines()[6:]] == [
        f"| {model}" for model in MODELS for _ in range(2)
    ]


@pytest.mark.slow
def test_borrowed_neighbors_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    borrowed_neighbors.main("ml-100k", None, 0, short=True)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "mf" in line]
    assert [row[3] for row in rows] == ["none: undefended", "own, exact", "borrowed"] * 2
    for row in rows[2::3]:
        assert 0 < float(row[4]) < 1


@pytest.mark.slow
def test_searches_by_ratings_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rated_neighbors.main(short=True, json_file=tmp_path / "rows.json")
    found = json.loads((tmp_path / "rows.json").read_text())
    assert len(found["rows"]) == 4
    for row in found["rows"][:2]:
        assert set(row["recall"].values()) == {1.0}
        assert 0 < row["memory"] < 1.5
    printed = capsys.readouterr().out
    assert printed.count("\n| 3,000 | 2,000 | 200,000 |") == 4
    assert printed.count("of the work leaves") == len(rated_neighbors.RARE)


def test_synthetic_ratings_are_as_skewed_as_movielens() -> None:
    ratings = skewed_ratings(2000, 3000, 250_000)
    assert abs(len(ratings) / 250_000 - 1) < 0.1
    counts = np.sort(ratings.item_counts())[::-1]
    # A twentieth of the items has most of the ratings, and half of the items hardly any.
    assert counts[:150].sum() > 0.5 * len(ratings)
    assert counts[1500:].sum() < 0.02 * len(ratings)
    lengths = np.diff(ratings.indptr)
    assert 1.6 < lengths.mean() / np.median(lengths) < 2.6
    assert skewed_ratings(2000, 3000, 250_000).digest() == ratings.digest()
    assert skewed_ratings(2000, 3000, 250_000, seed=1).digest() != ratings.digest()
