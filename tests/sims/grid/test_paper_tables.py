"""The paper's figures, as its tables print them: a few of each, checked by hand."""

import pytest

from sims.grid.paper_tables import accuracy, hit_ratio, k, paper_tables, seconds

DATASETS = {"ml-100k", "ml-1m", "filmtrust", "yelp"}
MODELS = {"mf", "nsvd", "autorec", "cdae"}


@pytest.mark.parametrize(
    ("cell", "figure"),
    [
        (("ml-1m", "mf", "mixinf", "rvd"), 0.564),
        (("ml-100k", "mf", "aush", "rmf"), 0.025),
        (("yelp", "nsvd", "mixrand", "rvd"), 0.743),
        (("ml-100k", "cdae", "average", "none"), 0.844),
    ],
)
def test_hit_ratios(cell: tuple[str, str, str, str], figure: float) -> None:
    assert hit_ratio(*cell) == figure


@pytest.mark.parametrize(
    ("cell", "figure"),
    [
        (("ml-100k", "mf", "mixrand", "none"), 0.170),
        (("filmtrust", "autorec", "aush", "none"), 0.846),
    ],
)
def test_accuracies(cell: tuple[str, str, str, str], figure: float) -> None:
    assert accuracy(*cell) == figure


def test_neighbors_and_seconds() -> None:
    assert (k("filmtrust", "mf"), k("ml-1m", "nsvd"), k("synthetic", "mf")) == (650, 70, None)
    assert (seconds("cdae", "rvd"), seconds("mf", "none"), seconds("mf", "apr")) == (
        1.268,
        0.007,
        None,
    )


def test_every_table_is_whole() -> None:
    tables = paper_tables()
    for rows in (tables.hit_ratio, tables.accuracy):
        assert set(rows) == DATASETS
        for dataset, models in rows.items():
            assert set(models) == MODELS
            for model, defenses in models.items():
                whole = {"none", "rvd"}
                if model == "mf" and rows is tables.hit_ratio:
                    whole |= {"apr", "ltsmf", "rmf"}
                    # Its row "Our" is a misprint.
                    whole -= {"rvd"} if dataset == "yelp" else set()
                assert set(defenses) == whole
    assert all(set(models) == MODELS for models in tables.k.values())


def test_a_misprint_is_no_reference() -> None:
    assert hit_ratio("yelp", "mf", "aush", "rvd") is None
    assert hit_ratio("yelp", "mf", "aush", "none") == 0.836
    misprint = paper_tables().misprints["hit_ratio"]["yelp"]["mf"]["rvd"]
    assert misprint == paper_tables().accuracy["ml-100k"]["mf"]["none"]


def test_what_the_paper_does_not_have() -> None:
    assert hit_ratio("ml-100k", "mf", "vicinity", "rvd") is None
    assert hit_ratio("ml-100k", "mf", "aush", "rmf+rvd") is None
    assert accuracy("synthetic", "mf", "aush", "rvd") is None
