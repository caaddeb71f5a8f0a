"""A client's local steps, against torch's slopes of the loss that they go down."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.federated import OwnRatings, local_update, own_vector
from common.federated import LocalTraining, Table


def told(**changed: float) -> LocalTraining:
    usual = LocalTraining(
        steps=1, rate=0.05, user_rate=0.3, unrated=3.0, unrated_weight=0.4, row_norm=9.0
    )
    return replace(usual, **changed)  # type: ignore[arg-type]


def someone(seed: int, items: int = 40) -> tuple[Table, Table, OwnRatings]:
    rng = np.random.default_rng(seed)
    rated = np.sort(rng.choice(items, int(rng.integers(1, 10)), replace=False)).astype(np.int64)
    table, vector = rng.normal(0, 0.3, (items, 4)), rng.normal(0, 0.3, 4)
    ratings = rng.choice([0.2, 0.4, 0.6, 0.8, 1.0], len(rated)).astype(np.float32)
    return table.astype(np.float32), vector.astype(np.float32), OwnRatings(rated, ratings)


def loss(
    rows: torch.Tensor, p: torch.Tensor, items: NDArray[np.int64], own: OwnRatings
) -> torch.Tensor:
    """L_u, the slow way."""
    known = dict(zip(own.items.tolist(), own.ratings.tolist(), strict=True))
    total = torch.zeros((), dtype=torch.float64)
    for row, item in zip(rows, items.tolist(), strict=True):
        gap = row @ p - known.get(item, 0.0)
        total = total + (1.0 if item in known else 0.4) * gap * gap
    return total


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_steps_go_down_the_slope_of_the_loss(seed: int, steps: int) -> None:
    table, vector, own = someone(seed)
    local = told(steps=steps, user_rate=0.05)
    found, update = local_update(table, vector, own, local, rng=np.random.default_rng(seed))
    rows = torch.from_numpy(table[update.items].astype(np.float64)).requires_grad_()
    p = torch.from_numpy(vector.astype(np.float64)).requires_grad_()
    for _ in range(steps):
        slopes = torch.autograd.grad(loss(rows, p, update.items, own), [rows, p])
        moved = rows - local.rate * slopes[0], p - local.user_rate / len(rows) * slopes[1]
        rows, p = (each.detach().requires_grad_() for each in moved)
    assert found == pytest.approx(p.detach().numpy(), abs=1e-5)
    expected = rows.detach().numpy() - table[update.items]
    assert update.rows == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 2**32))
def test_no_rate_leads_the_users_own_side_up(seed: int) -> None:
    table, vector, own = someone(seed)
    local = told(user_rate=1e6)
    for steps in (1, 2, 30):
        rng = np.random.default_rng(seed)
        moved = own_vector(table, vector, own, local, steps=steps, rng=rng)
        _, update = local_update(table, vector, own, local, rng=np.random.default_rng(seed))
        rows = torch.from_numpy(table[update.items].astype(np.float64))
        before, after = (
            float(loss(rows, torch.from_numpy(each.astype(np.float64)), update.items, own))
            for each in (vector, moved)
        )
        assert after <= before * (1 + 1e-5)


def test_all_rated_items_are_sent_and_others_with_them() -> None:
    table, vector, own = someone(3)
    _, update = local_update(table, vector, own, told(), rng=np.random.default_rng(0))
    others = np.setdiff1d(update.items, own.items)
    assert np.isin(own.items, update.items).all() and 0 < len(others) <= 3 * len(own.items)
    _, again = local_update(table, vector, own, told(), rng=np.random.default_rng(1))
    assert np.setdiff1d(again.items, own.items).tolist() != others.tolist()
    _, alone = local_update(table, vector, own, told(unrated=0), rng=np.random.default_rng(1))
    assert alone.items.tolist() == own.items.tolist()


def test_no_row_changes_by_more_than_the_bound_and_the_table_not_at_all() -> None:
    table, vector, own = someone(5)
    kept = table.copy()
    local = told(rate=100.0, row_norm=0.01)
    _, update = local_update(table, vector, own, local, rng=np.random.default_rng(0))
    assert update.row_norms.max() == pytest.approx(0.01, rel=1e-4)
    assert (table == kept).all()


def test_a_user_without_ratings_sends_nothing() -> None:
    table, vector, _ = someone(1)
    nothing = OwnRatings(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    found, update = local_update(table, vector, nothing, told(), rng=np.random.default_rng(0))
    assert len(update.items) == 0 and (found == vector).all()
