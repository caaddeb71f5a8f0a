"""Steps on a batch's rows alone are torch's steps on all rows, up to rounding."""

import numpy as np
import pytest
import torch

import server.training.train as training
from server.data.synthetic import synthetic
from server.model_store import TrainedModel
from server.training.sparse_descent import SPARSE_FROM, is_sparse
from server.training.train import Start, TrainingSettings, train


def both(
    monkeypatch: pytest.MonkeyPatch, settings: TrainingSettings, start: Start | None = None
) -> list[TrainedModel]:
    """By rows alone, and by all of them."""
    ratings = synthetic(90, 70, seed=1)
    found = []
    for sparse in (True, False):
        monkeypatch.setattr(training, "is_sparse", lambda _rows, _batch, answer=sparse: answer)
        found.append(train(ratings, settings, start=start))
    return found


@pytest.mark.parametrize("width", [1, 8, 13, 64])
@pytest.mark.parametrize("batch", [1, 100, 10_000])
def test_rows_alone_are_all_rows(monkeypatch: pytest.MonkeyPatch, width: int, batch: int) -> None:
    values = {"width": width, "batch": batch, "epochs": 2, "learning_rate": 0.3}
    rows, everything = both(monkeypatch, TrainingSettings.model_validate(values))
    for name, table in {**rows.shared_parameters, **rows.user_parameters}.items():
        other = {**everything.shared_parameters, **everything.user_parameters}[name]
        np.testing.assert_allclose(table, other, atol=2e-5)


def test_a_warm_start_goes_on_from_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainingSettings.model_validate({"width": 8, "epochs": 1, "learning_rate": 0.1})
    first, _ = both(monkeypatch, settings)
    start = Start("a" * 64, {**first.shared_parameters, **first.user_parameters})
    rows, everything = both(monkeypatch, settings, start)
    np.testing.assert_allclose(
        rows.shared_parameters["item_embedding"],
        everything.shared_parameters["item_embedding"],
        atol=2e-5,
    )


def test_few_rows_are_stepped_all_as_they_were() -> None:
    batch = TrainingSettings().batch
    # The published data sets, and one of ten million ratings.
    for users, items in ((943, 1682), (1508, 2071), (6040, 3706)):
        assert not is_sparse(users + items, batch)
    assert is_sparse(69_878 + 10_677, batch)
    assert not is_sparse(2 * SPARSE_FROM * batch, batch)


def test_it_is_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainingSettings.model_validate({"width": 8, "epochs": 2})
    first, _ = both(monkeypatch, settings)
    torch.manual_seed(3)
    second, _ = both(monkeypatch, settings)
    for name, table in first.user_parameters.items():
        np.testing.assert_array_equal(table, second.user_parameters[name])
