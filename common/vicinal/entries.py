"""Products over the observed entries of a neighborhood's rating matrix, for fine-tuning.

What a step needs of k rows and T items are three products over the N observed entries: scores
z_v · q_i, their residuals times items summed by row, and times rows summed by item. In a crowded
neighborhood dense matrices give them fastest, in a sparse one lists of entries. With α > 0 every
entry counts, so that matrices are dense and all items count as touched.

Shapes: k neighbors, N ratings, T touched items, D width of a table. A vector of entries is
whatever the class makes of [N] values in the order of the ratings.
"""

from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix

Table = NDArray[np.float32]
Indices = NDArray[np.int64]

# From so many entries for each observed one on, lists beat dense matrices (measured, D = 64).
SPARSE: Final = 20


class Entries(Protocol):
    """touched: the items [T] whose rows tables have, in that order.

    `scores` are overwritten by the next call.
    """

    touched: Indices

    def placed(self, values: Table) -> Table:
        """Values of the N ratings as a vector of entries, zero elsewhere."""
        ...

    def scores(self, items: Table, rows: Table) -> Table:
        """Products of a row of `items` [T, D] and of `rows` [k, D] at every entry."""
        ...

    def residuals(self, predicted: Table) -> Table:
        """Of all entries, w (r̂ − r), in place of r̂; w is 1 where a rating was observed, else α."""
        ...

    def value(self, predicted: Table) -> float:
        """Σ w (r̂ − r)²; `predicted` is lost."""
        ...

    def by_row(self, entries: Table, items: Table) -> Table:
        """Σ_i c_vi q_i of every row, [k, D]."""
        ...

    def by_item(self, entries: Table, rows: Table, out: Table) -> Table:
        """Σ_v c_vi z_v of every touched item, [T, D], which is `out`."""
        ...


def entries_of(ratings: RatingMatrix, alpha: float, dtype: np.dtype) -> Entries:
    """The entries that count: with α > 0 all, else those that are observed."""
    touched = np.arange(ratings.item_count) if alpha > 0 else touched_items(ratings)
    if alpha == 0 and len(touched) * ratings.user_count > SPARSE * len(ratings):
        return SparseEntries(ratings, touched, dtype)
    return DenseEntries(ratings, touched, alpha, dtype)


def touched_items(ratings: RatingMatrix) -> Indices:
    """The items that a row rated, ascending, [T]."""
    seen = np.zeros(ratings.item_count, dtype=bool)
    seen[ratings.items] = True
    return np.flatnonzero(seen)


def places(ratings: RatingMatrix, touched: Indices) -> Indices:
    """Where in `touched` the item of every rating stands, [N]."""
    place = np.empty(ratings.item_count, dtype=np.int64)
    place[touched] = np.arange(len(touched))
    return place[ratings.items]


@final
class DenseEntries:
    """Entries as matrices [T, k]."""

    def __init__(
        self, ratings: RatingMatrix, touched: Indices, alpha: float, dtype: np.dtype
    ) -> None:
        self.touched = touched
        self._where = (places(ratings, touched), ratings.users)
        self._scores: Table = np.empty((len(touched), ratings.user_count), dtype=dtype)
        self._targets = self.placed(ratings.ratings)
        self._weights = np.full_like(self._scores, alpha)
        self._weights[self._where] = 1

    def placed(self, values: Table) -> Table:
        entries = np.zeros_like(self._scores)
        entries[self._where] = values
        return entries

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

    def by_row(self, entries: Table, items: Table) -> Table:
        sums: Table = entries.T @ items
        return sums

    def by_item(self, entries: Table, rows: Table, out: Table) -> Table:
        return np.matmul(entries, rows, out=out)


@final
class SparseEntries:
    """Observed entries as vectors [N], for α = 0.

    Items with most ratings come first, and entries are in rounds: the first rating of every item,
    then the second of every item that has two, and so on. A round is a run of entries, and its
    items are the first ones, so that sums by item are a few additions of whole tables.
    """

    def __init__(self, ratings: RatingMatrix, touched: Indices, dtype: np.dtype) -> None:
        counts = np.bincount(places(ratings, touched), minlength=len(touched))
        most_first = np.argsort(-counts, kind="stable")
        self.touched, counts = touched[most_first], counts[most_first]
        self._places = places(ratings, self.touched)
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

    def by_row(self, entries: Table, items: Table) -> Table:
        buffers = self._buffers_for(items.shape[1])
        items.take(self._places, 0, buffers.items, "clip")
        entries.take(self._ordered, 0, self._by_row, "clip")
        for sum_of, vectors, total in buffers.runs:
            sum_of(vectors, total)
        return buffers.sums.copy()

    def by_item(self, entries: Table, rows: Table, out: Table) -> Table:
        vectors = self._buffers_for(rows.shape[1]).rows
        rows.take(self._rows, 0, vectors, "clip")
        first = len(out)
        np.multiply(vectors[:first], entries[:first, None], out=out)
        vectors[first:] *= entries[first:, None]
        for start, end in zip(self._ends, self._ends[1:], strict=False):
            out[: end - start] += vectors[start:end]
        return out

    def _buffers_for(self, width: int) -> "_Buffers":
        if width not in self._buffers:
            self._buffers[width] = _Buffers(self._by_row, self._indptr, width)
        return self._buffers[width]


@final
class _Buffers:
    """Vectors of width D at every entry, made once.

    rows, items  [N, D]
    sums         [k, D]
    runs         the product with its entries, its vectors and the sum of every row that has any:
                 slices that a step would pay for
    """

    def __init__(self, by_row: Table, indptr: list[int], width: int) -> None:
        self.rows = np.empty((len(by_row), width), dtype=by_row.dtype)
        self.items = np.empty_like(self.rows)
        self.sums = np.zeros((len(indptr) - 1, width), dtype=by_row.dtype)
        spans = zip(indptr[:-1], indptr[1:], self.sums, strict=True)
        self.runs = [(by_row[a:b].dot, self.items[a:b], total) for a, b, total in spans if a < b]
