"""Adagrad on the factors of mf that touches a batch's rows only, in loops for numba.

    e_ui = p_u · q_i − r_ui         of the B ratings of a batch
    g = 2/B Σ e_ui q_i, …           summed over a row's ratings, in the batch's order
    h ← h + g²;  p ← p − η g / (√h + ε)

Adagrad leaves a row without a gradient as it is, so that this is what torch does with all rows, up
to rounding, at the cost of the rows that are there: of MovieLens 10M's 80,000 rows a batch of 4,096
ratings has 5,000 at most. Sums are taken in one order, in eight parts: every machine gets the same
numbers.

Shapes: U users, I items, N ratings, B ratings of a batch, d embedding width.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from common.ratings import RatingMatrix

Table = NDArray[np.float32]
Function = TypeVar("Function", bound=Callable[..., Any])

# So many times the rows that a batch can have: below, torch's steps over all rows are as fast, and
# published versions were trained by them.
SPARSE_FROM: Final = 4
# torch.optim.Adagrad's ε.
_EPSILON: Final = np.float32(1e-10)
# Parts of a sum; a register of AVX2.
_LANES: Final = 8


def exactly(function: Function) -> Function:
    """Compiled as it is written: no sums reordered, no quotients approximated."""
    made = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast(Function, made)


def is_sparse(rows: int, batch: int) -> bool:
    """Whether batches have so few of all rows that the others had better be left alone."""
    return rows > SPARSE_FROM * 2 * batch


class SparseAdagrad:
    """Epochs over ratings, in place on the tables of users [U, d] and items [I, d]."""

    def __init__(
        self,
        ratings: RatingMatrix,
        users: Table,
        items: Table,
        *,
        rate: float,
        initial_accumulator: float,
        batch: int,
    ) -> None:
        width = users.shape[1]
        # Whole parts of a sum: what is filled up stays 0.
        self._width, padded = width, -(-width // _LANES) * _LANES
        self._tables = users, items
        shapes = [(len(table), padded) for table in (users, items)]
        self._padded = [np.zeros(shape, dtype=np.float32) for shape in shapes]
        self._sums = [np.full_like(table, initial_accumulator) for table in self._padded]
        self._places = [np.full(len(table), -1, dtype=np.int32) for table in (users, items)]
        self._touched = [np.empty(batch, dtype=np.int32) for _ in shapes]
        self._gradients = [np.empty((batch, padded), dtype=np.float32) for _ in shapes]
        self._users, self._items = ratings.users.astype(np.int32), ratings.items
        self._ratings = ratings.ratings
        self._rate, self._batch = np.float32(rate), batch
        for padded_table, table in zip(self._padded, self._tables, strict=True):
            padded_table[:, :width] = table

    def epoch(self, order: torch.Tensor) -> None:
        """Steps over all ratings in an order [N]; the tables are those after it."""
        arrays: tuple[Any, ...] = (
            *self._padded,
            *self._sums,
            *self._places,
            *self._touched,
            *self._gradients,
        )
        _epoch(
            order.numpy(),
            self._users,
            self._items,
            self._ratings,
            self._rate,
            self._batch,
            *arrays,
        )
        for padded_table, table in zip(self._padded, self._tables, strict=True):
            table[:] = padded_table[:, : self._width]


@exactly
def _dot(one: Table, other: Table) -> np.float32:
    # Eight sums by name: an array of them would be made anew for every rating.
    a = b = c = d = e = f = g = h = np.float32(0)
    for k in range(0, len(one), _LANES):
        a += one[k] * other[k]
        b += one[k + 1] * other[k + 1]
        c += one[k + 2] * other[k + 2]
        d += one[k + 3] * other[k + 3]
        e += one[k + 4] * other[k + 4]
        f += one[k + 5] * other[k + 5]
        g += one[k + 6] * other[k + 6]
        h += one[k + 7] * other[k + 7]
    return np.float32(((a + b) + (c + d)) + ((e + f) + (g + h)))


@exactly
def _place(row: int, places: NDArray[np.int32], touched: NDArray[np.int32], count: int) -> int:
    """Where a row's gradient is, which is 0 at first."""
    if places[row] < 0:
        places[row] = count
        touched[count] = row
    return int(places[row])


@exactly
def _add(gradient: Table, factor: np.float32, vector: Table) -> None:
    for place in range(len(vector)):
        gradient[place] += factor * vector[place]


@exactly
def _step(
    table: Table,
    sums: Table,
    gradients: Table,
    places: NDArray[np.int32],
    touched: NDArray[np.int32],
    count: int,
    rate: np.float32,
) -> None:
    for one in range(count):
        row = touched[one]
        places[row] = -1
        for place in range(table.shape[1]):
            gradient = gradients[one, place]
            sums[row, place] += gradient * gradient
            table[row, place] -= rate * (gradient / (np.sqrt(sums[row, place]) + _EPSILON))


@exactly
def _epoch(
    order: NDArray[np.int64],
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    ratings: Table,
    rate: np.float32,
    batch: int,
    user_table: Table,
    item_table: Table,
    user_sums: Table,
    item_sums: Table,
    user_places: NDArray[np.int32],
    item_places: NDArray[np.int32],
    users_touched: NDArray[np.int32],
    items_touched: NDArray[np.int32],
    user_gradients: Table,
    item_gradients: Table,
) -> None:
    for start in range(0, len(order), batch):
        end = min(len(order), start + batch)
        share = np.float32(2) / np.float32(end - start)
        user_count = item_count = 0
        for place in range(start, end):
            rating = order[place]
            user, item = users[rating], items[rating]
            p, q = user_table[user], item_table[item]
            factor = share * (_dot(p, q) - ratings[rating])
            own = _place(user, user_places, users_touched, user_count)
            if own == user_count:
                user_gradients[own] = 0
                user_count += 1
            _add(user_gradients[own], factor, q)
            own = _place(item, item_places, items_touched, item_count)
            if own == item_count:
                item_gradients[own] = 0
                item_count += 1
            _add(item_gradients[own], factor, p)
        _step(user_table, user_sums, user_gradients, user_places, users_touched, user_count, rate)
        _step(item_table, item_sums, item_gradients, item_places, items_touched, item_count, rate)
