"""The exact solver of alternating least squares for many ratings, in loops for numba.

    A_u = QᵀQ + λ + Σ_{i ∈ Ω_u} (c_ui − 1) q_i q_iᵀ,   b_u = Σ_{i ∈ Ω_u} c_ui q_i,   A_u p_u = b_u

A row is solved by itself, and its sums are taken in one order: the rows are the same for any number
of threads and on every machine. Threads are as many as there are cores.

Shapes: U rows that are solved, I rows that are given, N ratings, d embedding width.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.processes import core_count
from server.training.sparse_descent import exactly

Table = NDArray[np.float32]

# From so many ratings on; published versions of fewer were trained by implicit's solver, which
# gives the same up to rounding.
MANY_RATINGS: Final = 2_000_000
# Ratings that a thread takes at a time, in whole rows.
RATINGS_PER_PART: Final = 200_000
_LANES: Final = 8


def alternated(
    confidence: csr_matrix,
    *,
    width: int,
    regularization: float,
    rounds: int,
    seed: int,
    told: Callable[[int], None],
    threads: int | None = None,
) -> tuple[Table, Table]:
    """Factors of users [U, d] and items [I, d] after all rounds, from small random numbers.

    confidence  c of what is rated, float32 [U, I]; 1 elsewhere
    told        is called with the rounds that are done
    threads     None: as many as this process may use
    """
    by_items = confidence.T.tocsr()
    rng = np.random.default_rng(seed)
    shape = confidence.shape
    users, items = (
        np.float32(0.01) * rng.random((count, width), dtype=np.float32) for count in shape
    )
    with ThreadPoolExecutor(threads or core_count()) as pool:
        for done in range(rounds):
            _solve(pool, confidence, users, items, regularization)
            _solve(pool, by_items, items, users, regularization)
            told(done + 1)
    return users, items


def _solve(
    pool: ThreadPoolExecutor, rated: csr_matrix, solved: Table, given: Table, penalty: float
) -> None:
    """Every row of `solved`, in place."""
    width = given.shape[1]
    base = np.zeros((width, width), dtype=np.float32)
    _gram(given, base)
    base[np.diag_indices(width)] += np.float32(penalty)
    parts = max(len(rated.data) // RATINGS_PER_PART, 1)
    targets = np.linspace(0, len(rated.data), parts + 1)[1:-1]
    edges = np.unique([0, *np.searchsorted(rated.indptr, targets), len(solved)])
    tasks = [
        pool.submit(_rows, rated.indptr, rated.indices, rated.data, base, given, solved, start, end)
        for start, end in pairwise(edges)
    ]
    for task in tasks:
        task.result()


@exactly
def _add(gram: Table, weight: np.float32, row: Table) -> None:
    """What one row adds to the upper half; lines begin where a register does."""
    width = len(row)
    for start in range(0, width, _LANES):
        rest = row[start:]
        for a in range(start, min(start + _LANES, width)):
            factor, line = weight * row[a], gram[a, start:]
            for c in range(len(rest)):
                line[c] += factor * rest[c]


@exactly
def _add_four(
    gram: Table,
    weights: Table,
    one: Table,
    two: Table,
    three: Table,
    four: Table,
) -> None:
    """The same of four rows, for a quarter of the loads and stores."""
    width = len(one)
    for start in range(0, width, _LANES):
        p, q, r, s = one[start:], two[start:], three[start:], four[start:]
        for a in range(start, min(start + _LANES, width)):
            x, y = weights[0] * one[a], weights[1] * two[a]
            z, w = weights[2] * three[a], weights[3] * four[a]
            line = gram[a, start:]
            for c in range(len(p)):
                line[c] += (x * p[c] + y * q[c]) + (z * r[c] + w * s[c])


@exactly
def _gram(rows: Table, gram: Table) -> None:
    for row in range(len(rows)):
        _add(gram, np.float32(1), rows[row])


@exactly
def _rows(
    indptr: NDArray[np.int32],
    columns: NDArray[np.int32],
    confidence: Table,
    base: Table,
    given: Table,
    solved: Table,
    first: int,
    last: int,
) -> None:
    width = given.shape[1]
    table = np.empty((width, width), dtype=np.float32)
    right = np.empty(width, dtype=np.float32)
    weights = np.empty(4, dtype=np.float32)
    for row in range(first, last):
        start, end = indptr[row], indptr[row + 1]
        table[:] = base
        right[:] = 0
        place = start
        while place < end:
            vector = given[columns[place]]
            for k in range(width):
                right[k] += confidence[place] * vector[k]
            place += 1
        place = start
        while place + 4 <= end:
            for k in range(4):
                weights[k] = confidence[place + k] - np.float32(1)
            _add_four(
                table,
                weights,
                given[columns[place]],
                given[columns[place + 1]],
                given[columns[place + 2]],
                given[columns[place + 3]],
            )
            place += 4
        while place < end:
            _add(table, confidence[place] - np.float32(1), given[columns[place]])
            place += 1
        _factor(table)
        _substitute(table, right)
        solved[row] = right


@exactly
def _factor(table: Table) -> None:
    """RᵀR of a positive definite table, R in its upper half."""
    width = len(table)
    for k in range(width):
        pivot = table[k, k:]
        scale = np.float32(1) / np.sqrt(pivot[0])
        for c in range(len(pivot)):
            pivot[c] *= scale
        for a in range(k + 1, width):
            factor, line, rest = table[k, a], table[a, a:], table[k, a:]
            for c in range(len(rest)):
                line[c] -= factor * rest[c]


@exactly
def _substitute(upper: Table, right: Table) -> None:
    """X of RᵀR x = b, in the place of b."""
    width = len(right)
    for k in range(width):
        right[k] /= upper[k, k]
        value, line, rest = right[k], upper[k, k + 1 :], right[k + 1 :]
        for c in range(len(rest)):
            rest[c] -= value * line[c]
    for back in range(width):
        k = width - 1 - back
        line = upper[k]
        value = right[k]
        for c in range(k + 1, width):
            value -= line[c] * right[c]
        right[k] = value / line[k]
