"""Products over the observed cells of a neighborhood, for fine-tuning with α = 0.

What a step needs of k rows and T items are three products over the N cells that are observed:
scores z_v · q_i, their residuals times items summed by row, and times rows summed by item. In a
crowded neighborhood dense matrices give them fastest, in a sparse one lists of cells. With α > 0
every cell counts, and dense matrices hold all items.

Shapes: k neighbors, N ratings, T held items, D width of a table. A vector of cells is whatever
the class makes of [N] values in the order of the ratings.
"""

from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix

Table = NDArray[np.float32]
Indices = NDArray[np.int64]

# From so many cells for each observed one on, lists beat dense matrices (measured, D = 64).
SPARSE: Final = 20


class Cells(Protocol):
    """held: the items [T] whose rows tables hold, in that order.

    `scores` are overwritten by the next call.
    """

    held: Indices

    def placed(self, values: Table) -> Table:
        """Values of the N ratings as a vector of cells, zero elsewhere."""
        ...

    def scores(self, items: Table, rows: Table) -> Table:
        """Products of a row of `items` [T, D] and of `rows` [k, D] at every cell."""
        ...

    def residuals(self, predicted: Table) -> Table:
        """Of all cells, w (r̂ − r), in place of r̂; w is 1 where a rating was observed, else α."""
        ...

    def value(self, predicted: Table) -> float:
        """Σ w (r̂ − r)²; `predicted` is lost."""
        ...

    def by_row(self, cells: Table, items: Table) -> Table:
        """Σ_i c_vi q_i of every row, [k, D]."""
        ...

    def by_item(self, cells: Table, rows: Table, out: Table) -> Table:
        """Σ_v c_vi z_v of every held item, [T, D], which is `out`."""
        ...


def cells_of(ratings: RatingMatrix, alpha: float, dtype: np.dtype) -> Cells:
    """The cells that count: with α > 0 all, else those of touched items."""
    held = np.arange(ratings.item_count) if alpha > 0 else touched(ratings)
    if alpha == 0 and len(held) * ratings.user_count > SPARSE * len(ratings):
        return SparseCells(ratings, held, dtype)
    return DenseCells(ratings, held, alpha, dtype)


def touched(ratings: RatingMatrix) -> Indices:
    """The items that a row rated, ascending, [T]."""
    seen = np.zeros(ratings.item_count, dtype=bool)
    seen[ratings.items] = True
    return np.flatnonzero(seen)


def places(ratings: RatingMatrix, held: Indices) -> Indices:
    """Where in `held` the item of every rating stands, [N]."""
    place = np.empty(ratings.item_count, dtype=np.int64)
    place[held] = np.arange(len(held))
    return place[ratings.items]


@final
class DenseCells:
    """Cells as matrices [T, k]."""

    def __init__(self, ratings: RatingMatrix, held: Indices, alpha: float, dtype: np.dtype) -> None:
        self.held = held
        self._where = (places(ratings, held), ratings.users)
        self._scores: Table = np.empty((len(held), ratings.user_count), dtype=dtype)
        self._targets = self.placed(ratings.ratings)
        self._weights = np.full_like(self._scores, alpha)
        self._weights[self._where] = 1

    def placed(self, values: Table) -> Table:
        cells = np.zeros_like(self._scores)
        cells[self._where] = values
        return cells

    def scores(self, items: Table, rows: Table) -> Table:
        # BLAS is slow on a product of a few rows by a transposed table.
        return np.matmul(items, np.ascontiguousarray(rows.T), out=self._scores)

    def residuals(self, predicted: Table) -> Table:
        # Targets are zero where nothing is observed, and there the weight is α.
        predicted *= self._weights
        predicted -= self._targets
        return predicted

    def value(self, predicted: Table) -> float:
        gap = predicted - self._targets
        return float(np.vecdot(self.residuals(predicted), gap).sum(dtype=np.float64))

    def by_row(self, cells: Table, items: Table) -> Table:
        sums: Table = cells.T @ items
        return sums

    def by_item(self, cells: Table, rows: Table, out: Table) -> Table:
        return np.matmul(cells, rows, out=out)


@final
class SparseCells:
    """Observed cells as vectors [N], for α = 0.

    Items with most ratings come first, and cells are in rounds: the first rating of every item,
    then the second of every item that has two, and so on. A round is a run of cells, and its
    items are the first ones, so that sums by item are a few additions of whole tables.
    """

    def __init__(self, ratings: RatingMatrix, held: Indices, dtype: np.dtype) -> None:
        counts = np.bincount(places(ratings, held), minlength=len(held))
        most_first = np.argsort(-counts, kind="stable")
        self.held, counts = held[most_first], counts[most_first]
        self._places = places(ratings, self.held)
        by_item = np.argsort(self._places, kind="stable")
        round_of = np.arange(len(ratings)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._order = by_item[np.argsort(round_of, kind="stable")]
        self._rows, self._items = ratings.users[self._order], self._places[self._order]
        self._ordered = np.empty_like(self._order)
        self._ordered[self._order] = np.arange(len(ratings))
        self._ends = np.cumsum(np.bincount(round_of)).tolist()
        self._indptr, self._dtype = ratings.indptr.tolist(), dtype
        self._targets = self.placed(ratings.ratings)
        self._scores = np.empty(len(ratings), dtype=dtype)
        self._by_row = np.empty(len(ratings), dtype=dtype)
        self._buffers: dict[int, _Buffers] = {}

    def placed(self, values: Table) -> Table:
        return values[self._order].astype(self._dtype, copy=False)

    def scores(self, items: Table, rows: Table) -> Table:
        buffers = self._buffers_for(items.shape[1])
        # Methods, and indices clipped: numpy's functions and checks cost as much as the work.
        rows.take(self._rows, 0, buffers.rows, "clip")
        items.take(self._items, 0, buffers.items, "clip")
        return np.vecdot(buffers.rows, buffers.items, out=self._scores)

    def residuals(self, predicted: Table) -> Table:
        predicted -= self._targets
        return predicted

    def value(self, predicted: Table) -> float:
        gap = self.residuals(predicted)
        return float(np.square(gap).sum(dtype=np.float64))

    def by_row(self, cells: Table, items: Table) -> Table:
        buffers = self._buffers_for(items.shape[1])
        items.take(self._places, 0, buffers.items, "clip")
        cells.take(self._ordered, 0, self._by_row, "clip")
        for sum_of, vectors, total in buffers.runs:
            sum_of(vectors, total)
        return buffers.sums.copy()

    def by_item(self, cells: Table, rows: Table, out: Table) -> Table:
        vectors = self._buffers_for(rows.shape[1]).rows
        rows.take(self._rows, 0, vectors, "clip")
        first = len(out)
        np.multiply(vectors[:first], cells[:first, None], out=out)
        vectors[first:] *= cells[first:, None]
        for start, end in zip(self._ends, self._ends[1:], strict=False):
            out[: end - start] += vectors[start:end]
        return out

    def _buffers_for(self, width: int) -> "_Buffers":
        if width not in self._buffers:
            self._buffers[width] = _Buffers(self._by_row, self._indptr, width)
        return self._buffers[width]


@final
class _Buffers:
    """Vectors of width D at every cell, made once.

    rows, items  [N, D]
    sums         [k, D]
    runs         the product with its cells, its vectors and the sum of every row that has any:
                 slices that a step would pay for
    """

    def __init__(self, by_row: Table, indptr: list[int], width: int) -> None:
        self.rows = np.empty((len(by_row), width), dtype=by_row.dtype)
        self.items = np.empty_like(self.rows)
        self.sums = np.zeros((len(indptr) - 1, width), dtype=by_row.dtype)
        spans = zip(indptr[:-1], indptr[1:], self.sums, strict=True)
        self.runs = [(by_row[a:b].dot, self.items[a:b], total) for a, b, total in spans if a < b]
