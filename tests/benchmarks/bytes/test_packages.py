"""What a request weighs at a small shape, and the figures of packages and reports."""

import numpy as np
import pytest

from benchmarks.bytes import packages, user_parameters
from benchmarks.bytes.fold_in import RIDGE, fold_in
from benchmarks.cases import MODEL_NAMES, WIDTH, Shape, recommender
from benchmarks.serving import reports
from common.vicinal.settings import VicinalSettings, preset

TINY = Shape("tiny", "ml-100k", 80, 300, 4000)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "shape_named", lambda name: TINY)


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_packages_are_small(model: str) -> None:
    settings = preset("paper", model=model, neighbors=12)
    found = packages.sizes_of("tiny", model, "paper", settings)
    vectors = 12 * (WIDTH + 1) if model in ("mf", "cdae") else 0
    assert found["int8"] == vectors
    # A byte and a half for each rating, the version's name, row lengths and the rest.
    assert found["package"] < vectors + 1.5 * found["ratings"] + 200
    assert found["zstd"] < 0.8 * found["raw"]
    assert "slim" not in found


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_slim_packages_pay_for_few_requests(model: str) -> None:
    settings = preset("vicinal", model=model, neighbors=20)
    found = packages.sizes_of("tiny", model, "vicinal", settings)
    if model == "cdae":
        assert "slim" not in found
        return
    assert found["slim"] > found["package"] and found["pays"] > 0
    assert packages._size_row(found)[-1] == f"{found['pays']:.1f}"


def test_a_fold_in_solves_its_equation() -> None:
    served = recommender(TINY, "mf").version.served
    ratings = recommender(TINY, "mf").ratings.rows([3, 7])
    items = served.parameters["item_embedding"][ratings.items_of(1)].astype(np.float64)
    targets = ratings.ratings[ratings.users == 1]
    expected = np.linalg.solve(
        items.T @ items + RIDGE["mf"] * np.eye(WIDTH), items.T @ targets.astype(np.float64)
    )
    np.testing.assert_allclose(fold_in(served, ratings)[1], expected, rtol=1e-3, atol=1e-5)


def test_a_fold_in_behind_sigmoids_goes_neither_too_far_nor_too_short() -> None:
    server = recommender(TINY, "cdae")
    served, ratings = server.version.served, server.ratings.rows([3, 7])

    def error(vectors: user_parameters.Table) -> float:
        own = {"user_embedding": vectors}
        embedding = served.model.encode({**served.parameters, **own}, ratings.dense())
        predicted = served.model.decode({**served.parameters, **own}, embedding)
        gap = (predicted - ratings.dense())[ratings.users, ratings.items]
        return float(np.square(gap).sum() + RIDGE["cdae"] * np.square(vectors).sum())

    found = fold_in(served, ratings)
    assert all(error(found) < error(np.float32(far) * found) for far in (0, 0.5, 1.5))


def test_removed_ratings_are_those_that_support_filtering_removed() -> None:
    server = recommender(TINY, "mf")
    settings = VicinalSettings(10, 0.2, 2, min_support=4)
    exact, removed = user_parameters._exact(server, 5, settings)
    kept = server.neighborhood(5, settings)
    assert len(exact.ratings) == len(kept.ratings)
    assert removed and all(row > 0 and item not in exact.ratings.items for row, item, _ in removed)
    assert len(user_parameters._told(server, exact, removed)) == len(removed)


def test_reports_are_counted_at_some_rate() -> None:
    found = reports.measure("NORMAL", 8, seconds=0.05)
    assert found["per_second"] > 0
