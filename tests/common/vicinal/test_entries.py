"""Lists of entries and dense matrices of them give the same products."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.ratings import RatingMatrix, RatingScale
from common.vicinal.entries import DenseEntries, Entries, SparseEntries, entries_of, touched_items
from common.vicinal.settings import StepRule, VicinalSettings
from common.vicinal.tuning import tuned_scores
from sims.theory.reference import reference_scores
from tests.common.vicinal.test_tuning import case

SCALE = RatingScale(1, 5, 1)


def random_ratings(seed: int, rows: int, items: int, density: float) -> RatingMatrix:
    rng = np.random.default_rng(seed)
    users, columns = np.nonzero(rng.random((rows, items)) < density)
    levels = rng.integers(0, 5, len(users))
    return RatingMatrix.from_triples(
        users, columns, levels, user_count=rows, item_count=items, scale=SCALE
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 9),
    items=st.integers(1, 30),
    density=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
)
def test_products_over_entries_are_those_of_masked_matrices(
    seed: int, rows: int, items: int, density: float
) -> None:
    ratings = random_ratings(seed, rows, items, density)
    rng = np.random.default_rng(seed)
    touched = touched_items(ratings)
    kinds: tuple[Entries, ...] = (
        DenseEntries(ratings, touched, 0.0, np.dtype(np.float64)),
        SparseEntries(ratings, touched, np.dtype(np.float64)),
    )
    q: NDArray[Any] = rng.normal(size=(items, 3))
    z: NDArray[Any] = rng.normal(size=(rows, 3))
    values: NDArray[Any] = rng.normal(size=len(ratings))
    dense: NDArray[Any] = ratings.dense().astype(np.float64)
    observed, placed = dense > 0, np.zeros_like(dense)
    placed[ratings.users, ratings.items] = values
    for entries in kinds:
        assert sorted(entries.touched.tolist()) == np.flatnonzero(observed.any(axis=0)).tolist()
        vector, table = entries.placed(values), q[entries.touched]
        np.testing.assert_allclose(entries.by_row(vector, table), placed @ q, atol=1e-12)
        out = np.empty_like(table)
        assert entries.by_item(vector, z, out) is out
        np.testing.assert_allclose(out, (placed.T @ z)[entries.touched], atol=1e-12)
        gap = observed * (z @ q.T - dense)
        residuals = entries.residuals(entries.scores(table, z))
        np.testing.assert_allclose(entries.by_row(residuals, table), gap @ q, atol=1e-12)
        value = entries.value(entries.scores(table, z))
        np.testing.assert_allclose(value, np.square(gap).sum(), atol=1e-12)


@pytest.mark.parametrize("model", ["mf", "nsvd", "autorec", "cdae"])
@pytest.mark.parametrize("proximal", [0.0, 0.01])
@pytest.mark.parametrize("rule", ["adagrad", "adam"])
def test_a_sparse_neighborhood_is_tuned_as_the_reference_is(
    model: str, proximal: float, rule: StepRule
) -> None:
    served, neighborhood = case(model, 7, 40, 300, 4, 0.01, np.float64)
    setting = VicinalSettings(
        40, 0.0, 6, step_rule=rule, learning_rate=0.1, proximal_weight=proximal
    )
    assert isinstance(entries_of(neighborhood.ratings, 0.0, np.dtype(np.float64)), SparseEntries)
    fast = tuned_scores(served, neighborhood, setting)
    slow = reference_scores(served, neighborhood, setting).numpy()
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-6)


def test_all_items_are_touched_where_unrated_ones_count() -> None:
    ratings = random_ratings(3, 4, 10, 0.05)
    assert entries_of(ratings, 0.1, np.dtype(np.float32)).touched.tolist() == list(range(10))
