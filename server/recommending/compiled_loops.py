"""One run of Adagrad or Adam in loops for numba: from copies of tables to moved tables.

A step is one pass over the observed entries by row and one by item, in which an item's gradient is
summed, added to its moments and taken off its row before the next item is looked at.

Shapes: k neighbors, N ratings, T touched items, d embedding width, D width of the output layer's
rows (d + 1 with biases).
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from common.vicinal.optimizers import ADAGRAD_EPSILON, ADAM_EPSILON, FIRST_DECAY, SECOND_DECAY

Table = NDArray[np.float32]
Indices = NDArray[np.int64]
# Output rows [T, D], input rows [T, d] or none, the hidden bias [1, d], users' vectors [k, d].
Tables = tuple[Table, Table, Table, Table]
Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be reordered, so that they fill vectors; infinity and NaN stay what they are.
FAST: Final = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Function) -> Function:
    made = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)(function)
    return cast(Function, made)


class Parts(NamedTuple):
    """Which of a model's parts there are, and which optimizer."""

    inputs: bool
    user_vector: bool
    biases: bool
    sigmoid_hidden: bool
    sigmoid_output: bool
    adam: bool


class RowEntries(NamedTuple):
    """The ratings of a neighborhood by row.

    indptr  of every row's ratings, [k + 1]
    place   in the touched items, of every rating's item, [N]
    """

    indptr: Indices
    place: Indices


class Sums(NamedTuple):
    """Which entries every row of a table sums, and of which rows their vectors are.

    ends   of every table row's run in `order`, after a first 0
    order  entries
    row    of every entry
    """

    ends: Indices
    order: Indices
    row: Indices


@compiled
def entries_of(
    items: Indices, indptr: Indices, item_count: int
) -> tuple[Indices, RowEntries, Sums]:
    """The touched items [T], ascending, and where ratings stand."""
    counts = np.zeros(item_count, dtype=np.int64)
    for item in items:
        counts[item] += 1
    touched = np.flatnonzero(counts)
    ends = np.zeros(len(touched) + 1, dtype=np.int64)
    for t in range(len(touched)):
        ends[t + 1] = ends[t] + counts[touched[t]]
        counts[touched[t]] = t
    row, place, order = np.empty_like(items), np.empty_like(items), np.empty_like(items)
    free = ends[:-1].copy()
    for v in range(len(indptr) - 1):
        for n in range(indptr[v], indptr[v + 1]):
            t = counts[items[n]]
            row[n], place[n], order[free[t]] = v, t, n
            free[t] += 1
    return touched, RowEntries(indptr, place), Sums(ends, order, row)


@compiled
def run(
    tables: Tables,
    inputs: Table,
    targets: Table,
    entries: RowEntries,
    by_item: Sums,
    parts: Parts,
    steps: int,
    learning_rate: float,
    half_count: float,
) -> tuple[float, float, Table]:
    """Move the tables; |Ω_N| · L_N before and after, and row 0's embedding, [D]."""
    items, encoder, bias, users = tables
    embedding = np.empty((len(users), items.shape[1]), dtype=items.dtype)
    pulls, signal = np.empty_like(users), np.empty_like(targets)
    # The bias sums all rows, a user's vector its own.
    ones, each = np.ones(len(users), dtype=items.dtype), np.arange(len(users))
    all_rows = Sums(np.array([0, len(users)]), each, each)
    own_row = Sums(np.arange(len(users) + 1), each, each)
    # Adagrad's sums start at its epsilon, in units of gradients without their factor.
    floor = 0.0 if parts.adam else (ADAGRAD_EPSILON * half_count) ** 2
    moments = (
        _moments(items, parts.adam, floor), _moments(encoder, parts.adam, floor),
        _moments(bias, parts.adam, floor), _moments(users, parts.adam, floor),
    )  # fmt: skip
    _embed(embedding, encoder, bias, users, inputs, entries, parts)
    start = value = _fit(items, embedding, targets, entries, parts, signal, pulls)
    for step in range(1, steps + 1):
        rate, epsilon = learning_rate, 0.0
        if parts.adam:
            root_scale = np.sqrt((1 - SECOND_DECAY) / (1 - SECOND_DECAY**step))
            rate *= (1 - FIRST_DECAY) / (1 - FIRST_DECAY**step) / root_scale
            epsilon = ADAM_EPSILON * half_count / root_scale
        pace = (items.dtype.type(rate), items.dtype.type(epsilon))
        _move(items, by_item, signal, embedding, moments[0], parts.adam, pace)
        if parts.inputs:
            _move(encoder, by_item, inputs, pulls, moments[1], parts.adam, pace)
        if parts.biases:
            _move(bias, all_rows, ones, pulls, moments[2], parts.adam, pace)
        if parts.user_vector:
            _move(users, own_row, ones, pulls, moments[3], parts.adam, pace)
        _embed(embedding, encoder, bias, users, inputs, entries, parts)
        value = _fit(items, embedding, targets, entries, parts, signal, pulls)
    return start, value, embedding[0].copy()


@compiled
def _moments(table: Table, adam: bool, floor: float) -> tuple[Table, Table]:
    """First moments, which Adagrad has none of, and second ones."""
    firsts = np.zeros((len(table) if adam else 0, table.shape[1]), dtype=table.dtype)
    return firsts, np.full_like(table, floor)


@compiled
def _sigmoid(value: np.floating) -> np.floating:
    share: np.floating = 1 / (1 + np.exp(-value))
    return share


@compiled
def _embed(
    embedding: Table,
    encoder: Table,
    bias: Table,
    users: Table,
    inputs: Table,
    entries: RowEntries,
    parts: Parts,
) -> None:
    """Write the rows that the output layer takes, [k, D]."""
    width = bias.shape[1]
    for v in range(len(embedding)):
        row = embedding[v]
        for j in range(width):
            row[j] = users[v, j] + bias[0, j]
        if parts.inputs:
            for n in range(entries.indptr[v], entries.indptr[v + 1]):
                weight, features = inputs[n], encoder[entries.place[n]]
                for j in range(width):
                    row[j] += weight * features[j]
        if parts.sigmoid_hidden:
            for j in range(width):
                row[j] = _sigmoid(row[j])
        if parts.biases:
            row[width] = 1


@compiled
def _fit(
    items: Table,
    embedding: Table,
    targets: Table,
    entries: RowEntries,
    parts: Parts,
    signal: Table,
    pulls: Table,
) -> float:
    """|Ω_N| · L_N; writes half its derivative by every score [N] and pre-activation [k, d]."""
    width, value = pulls.shape[1], 0.0
    for v in range(len(embedding)):
        row, pull = embedding[v], pulls[v]
        pull[:] = 0
        for n in range(entries.indptr[v], entries.indptr[v + 1]):
            item = items[entries.place[n]]
            score = targets.dtype.type(0)
            for j in range(len(row)):
                score += row[j] * item[j]
            if parts.sigmoid_output:
                score = targets.dtype.type(_sigmoid(score))
            gap = score - targets[n]
            value += gap * gap
            if parts.sigmoid_output:
                gap *= score * (1 - score)
            weight = targets.dtype.type(gap)
            signal[n] = weight
            for j in range(width):
                pull[j] += weight * item[j]
        if parts.sigmoid_hidden:
            for j in range(width):
                pull[j] *= row[j] * (1 - row[j])
    return value


@compiled
def _move(
    table: Table,
    sums: Sums,
    weights: Table,
    rows: Table,
    moments: tuple[Table, Table],
    adam: bool,
    pace: tuple[np.floating, np.floating],
) -> None:
    """Step every row of a table along the sum of its entries' weights times their rows."""
    keep, keep_second = table.dtype.type(FIRST_DECAY), table.dtype.type(SECOND_DECAY)
    (first, second), (rate, epsilon) = moments, pace
    width = table.shape[1]
    gradient = np.empty(width, dtype=table.dtype)
    for t in range(len(table)):
        gradient[:] = 0
        for place in range(sums.ends[t], sums.ends[t + 1]):
            n = sums.order[place]
            weight, row = weights[n], sums.row[n]
            for j in range(width):
                gradient[j] += weight * rows[row, j]
        if adam:
            for j in range(width):
                first[t, j] = keep * first[t, j] + gradient[j]
                second[t, j] = keep_second * second[t, j] + gradient[j] * gradient[j]
                table[t, j] -= rate * first[t, j] / (np.sqrt(second[t, j]) + epsilon)
        else:
            for j in range(width):
                second[t, j] += gradient[j] * gradient[j]
                table[t, j] -= rate * gradient[j] / np.sqrt(second[t, j])
