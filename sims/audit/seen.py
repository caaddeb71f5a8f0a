"""What somebody reads in what was sent: lines, each of one user or of several.

Attacks work on lines, and do not ask which release they are of: a row is a line of one user, a sum
over a cell is a line of many.

Shapes: n lines, I items, d embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from common.ratings import RatingMatrix


def incidence(ratings: RatingMatrix) -> csr_array:
    """Ones where there is a rating, [U, I]."""
    ones = np.ones(len(ratings), dtype=np.float64)
    shape = ratings.user_count, ratings.item_count
    return csr_array((ones, ratings.items, ratings.indptr), shape=shape)


@dataclass(frozen=True)
class Seen:
    """Lines that were decoded.

    raters   how many of a line's users rated each item, exactly or about, [n, I]
    sizes    how many users a line is of, [n]
    ratings  where every line is of one user: what it rated, and how highly, [n, I]
    vectors  user parameters of each line, [n, d]; None where there are none
    """

    raters: csr_array
    sizes: NDArray[np.int64]
    ratings: RatingMatrix | None = None
    vectors: NDArray[np.float32] | None = None

    @classmethod
    def of_rows(cls, ratings: RatingMatrix, vectors: NDArray[np.float32] | None = None) -> "Seen":
        """Rows of single users."""
        sizes = np.ones(ratings.user_count, dtype=np.int64)
        return cls(incidence(ratings), sizes, ratings, vectors)

    @classmethod
    def of_counts(cls, counts: NDArray[np.generic], sizes: NDArray[np.int64]) -> "Seen":
        """Counts of raters [n, I] over groups of users."""
        return cls(csr_array(np.asarray(counts, dtype=np.float64)), sizes)

    @classmethod
    def nothing(cls, items: int) -> "Seen":
        """No line."""
        return cls(csr_array((0, items), dtype=np.float64), np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def item_count(self) -> int:
        return int(self.raters.shape[1])

    @cached_property
    def shares(self) -> csr_array:
        """Share of a line's users who rated each item, [n, I]."""
        scaled = self.raters.multiply(1 / np.maximum(self.sizes, 1)[:, None])
        return csr_array(scaled).minimum(1)

    @property
    def open_items(self) -> NDArray[np.bool_]:
        """Items that any line has, [I]."""
        found = np.zeros(self.item_count, dtype=bool)
        found[self.raters.indices[self.raters.data != 0]] = True
        return found

    def pseudonyms(self) -> list[bytes]:
        """By line what tells two users apart: a vector is a pseudonym, else what stands there."""
        if self.ratings is None:
            return [bytes(f"{line}", "ascii") for line in range(len(self))]
        if self.vectors is not None and self.vectors.size:
            return [row.tobytes() for row in self.vectors]
        return row_keys(self.ratings)


def row_keys(ratings: RatingMatrix) -> list[bytes]:
    """Items and levels of each row."""
    ends = ratings.indptr[1:-1]
    parts = zip(np.split(ratings.items, ends), np.split(ratings.levels, ends), strict=True)
    return [items.tobytes() + b"/" + levels.tobytes() for items, levels in parts]


def together(parts: Sequence[Seen], items: int) -> Seen:
    """All lines of several artifacts, one after another."""
    kept = [part for part in parts if len(part)]
    if not kept:
        return Seen.nothing(items)
    sizes = np.concatenate([part.sizes for part in kept])
    raters = csr_array(vstack([part.raters for part in kept], format="csr"))
    rows = [part.ratings for part in kept if part.ratings is not None]
    if len(rows) < len(kept):
        return Seen(raters, sizes)
    tables = [part.vectors for part in kept if part.vectors is not None]
    vectors = np.concatenate(tables) if len(tables) == len(kept) else None
    return Seen(raters, sizes, stacked(rows), vectors)


def stacked(parts: Sequence[RatingMatrix]) -> RatingMatrix:
    """Rows of many matrices, one after another, at once."""
    first = parts[0]
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    return RatingMatrix(
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.levels for part in parts]),
        first.item_count,
        first.scale,
    )


def distinct(seen: Seen) -> tuple[Seen, NDArray[np.int64]]:
    """Each user's lines as one line, and for every line the number of that one, [n].

    Lines with one key are of one user, and what they show is put together: rows that were cut
    otherwise in every package, say. Lines of several users stay as they are.
    """
    numbers: dict[bytes, int] = {}
    which = np.array(
        [numbers.setdefault(key, len(numbers)) for key in seen.pseudonyms()], dtype=np.int64
    )
    if seen.ratings is None or len(numbers) == len(seen):
        return seen, np.arange(len(seen))
    ratings = seen.ratings
    cells = np.stack([which[ratings.users], ratings.items.astype(np.int64)])
    _, first = np.unique(cells[0] * ratings.item_count + cells[1], return_index=True)
    merged = RatingMatrix.from_triples(
        cells[0][first],
        cells[1][first],
        ratings.levels[first],
        user_count=len(numbers),
        item_count=ratings.item_count,
        scale=ratings.scale,
    )
    _, first = np.unique(which, return_index=True)
    vectors = None if seen.vectors is None else seen.vectors[first]
    return Seen.of_rows(merged, vectors), which
