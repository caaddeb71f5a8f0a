"""The rating matrix: who rated what, on which scale.

Shapes: U users, I items, N observed ratings.
"""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import InputError

Kind = TypeVar("Kind", bound=np.generic)
MAX_LEVELS = 256
MAX_RATING = 1e6


@dataclass(frozen=True)
class RatingScale:
    """A grid of ratings: minimum, minimum + step, …, maximum, in the data set's own units.

    A rating is stored as its *level* (0 for the minimum) and used as a fraction of the
    maximum, so that every rating lies in (0, 1]. A scale of one level says that somebody met an
    item and nothing more: implicit feedback.

    >>> RatingScale(1, 5, 1).fractions.tolist()
    [0.20000000298023224, 0.4000000059604645, 0.6000000238418579, 0.800000011920929, 1.0]
    """

    minimum: float
    maximum: float
    step: float

    def __post_init__(self) -> None:
        if not (0 < self.minimum <= self.maximum <= MAX_RATING and 0 < self.step <= MAX_RATING):
            raise InputError(
                f"rating scale: needs 0 < minimum ≤ maximum ≤ {MAX_RATING:g} and a positive step"
            )
        # Before dividing, which a tiny step would make overflow.
        if self.maximum - self.minimum >= MAX_LEVELS * self.step:
            raise InputError(f"rating scale {self}: more than {MAX_LEVELS} levels")
        if not np.isclose(self.minimum + self.step * (self.level_count - 1), self.maximum):
            raise InputError(f"rating scale {self}: the maximum is not on the grid")

    @property
    def level_count(self) -> int:
        return round((self.maximum - self.minimum) / self.step) + 1

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Every rating of the grid in the data set's units, by level."""
        return _fixed(self.minimum + self.step * np.arange(self.level_count, dtype=np.float64))

    @cached_property
    def fractions(self) -> NDArray[np.float32]:
        """Every rating of the grid as a fraction of the maximum, by level."""
        return _fixed((self.values / self.maximum).astype(np.float32))

    def levels(self, values: ArrayLike) -> NDArray[np.uint8]:
        """The levels of ratings given in the data set's units.

        Raises InputError when a value is not on the grid.
        """
        exact = (np.asarray(values, dtype=np.float64) - self.minimum) / self.step
        rounded = np.rint(exact)
        with np.errstate(invalid="ignore"):  # infinity less infinity is off the grid too
            ok = (np.abs(exact - rounded) < 1e-3) & (rounded >= 0) & (rounded < self.level_count)
        if not ok.all():
            bad = np.asarray(values).reshape(-1)[np.flatnonzero(~ok.reshape(-1))[0]]
            raise InputError(f"rating {bad:g} is not on the scale {self}")
        return rounded.astype(np.uint8)

    def nearest_levels(self, values: ArrayLike) -> NDArray[np.uint8]:
        """The levels nearest to any finite values, clipped to the scale."""
        exact = (np.asarray(values, dtype=np.float64) - self.minimum) / self.step
        return np.clip(np.rint(exact), 0, self.level_count - 1).astype(np.uint8)

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return f"{self.minimum:g} alone"
        return f"{self.minimum:g}–{self.maximum:g} in steps of {self.step:g}"


def _fixed(array: NDArray[Kind]) -> NDArray[Kind]:
    """The same numbers, not to be written to: whoever is lent ratings shares them with others."""
    view = array.view()
    view.setflags(write=False)
    return view


def _indices(values: ArrayLike, count: int, what: str) -> NDArray[np.int64]:
    """Raises InputError for one outside 0–(count − 1), before a narrower type could wrap it."""
    indices = np.asarray(values)
    if indices.size and (indices.min() < 0 or indices.max() >= count):
        raise InputError(f"rating matrix: a {what} index is outside 0–{count - 1}")
    return indices.astype(np.int64)


@dataclass(frozen=True, repr=False)
class RatingMatrix:
    """Observed ratings Ω in compressed rows; items ascend within a row, one rating a pair.

    indptr int64 [U+1], items int32 [N], levels uint8 [N] on `scale`. Ids are the names that
    users and items had where the ratings came from; without them the index is the name. All arrays
    are read-only.
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int32]
    levels: NDArray[np.uint8]
    item_count: int
    scale: RatingScale
    user_ids: tuple[str, ...] | None = None
    item_ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        indptr, items = self.indptr, self.items
        if indptr.ndim != 1 or len(indptr) < 1 or indptr[0] != 0 or indptr[-1] != len(items):
            raise InputError("rating matrix: row pointers do not fit the ratings")
        # Compared, not subtracted: differences of hostile row pointers would overflow.
        if len(self.levels) != len(items) or (indptr[1:] < indptr[:-1]).any():
            raise InputError("rating matrix: rows of negative length or missing ratings")
        if len(items) and (items.min() < 0 or items.max() >= self.item_count):
            raise InputError(f"rating matrix: an item index is outside 0–{self.item_count - 1}")
        if len(items) and int(self.levels.max()) >= self.scale.level_count:
            raise InputError(f"rating matrix: a rating is above the scale {self.scale}")
        row_starts = np.zeros(len(items), dtype=bool)
        row_starts[indptr[:-1][np.diff(indptr) > 0]] = True
        if (~row_starts[1:] & (np.diff(items) <= 0)).any():
            raise InputError("rating matrix: items do not ascend within a row")
        for name in ("indptr", "items", "levels"):
            object.__setattr__(self, name, _fixed(getattr(self, name)))

    @classmethod
    def from_triples(
        cls,
        users: ArrayLike,
        items: ArrayLike,
        levels: ArrayLike,
        *,
        user_count: int,
        item_count: int,
        scale: RatingScale,
        user_ids: tuple[str, ...] | None = None,
        item_ids: tuple[str, ...] | None = None,
    ) -> "RatingMatrix":
        """Build from (user index, item index, level) triples in any order.

        Raises InputError for an index out of range or a pair that occurs twice.
        """
        rows = _indices(users, user_count, "user")
        columns = _indices(items, item_count, "item").astype(np.int32)
        graded = _indices(levels, scale.level_count, "rating").astype(np.uint8)
        order = np.lexsort((columns, rows))
        indptr = np.zeros(user_count + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=user_count), out=indptr[1:])
        return cls(
            indptr,
            columns[order],
            graded[order],
            item_count,
            scale,
            user_ids,
            item_ids,
        )

    @property
    def user_count(self) -> int:
        return len(self.indptr) - 1

    def __getstate__(self) -> dict[str, Any]:
        """Without what is found anew where it is asked for, which is larger than the ratings."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __repr__(self) -> str:
        return f"RatingMatrix({self.summary})"

    @property
    def summary(self) -> str:
        """Sizes, scale and digest, in a line."""
        return (
            f"{self.user_count} users × {self.item_count} items, {len(self)} ratings "
            f"{self.scale}, digest {self.digest()[:12]}"
        )

    def __len__(self) -> int:
        """Number of observed ratings."""
        return len(self.items)

    @cached_property
    def ratings(self) -> NDArray[np.float32]:
        """Every rating as a fraction of the scale's maximum, [N]."""
        return _fixed(self.scale.fractions[self.levels])

    @cached_property
    def users(self) -> NDArray[np.int64]:
        """The user index of every rating, [N]."""
        return _fixed(np.repeat(np.arange(self.user_count), np.diff(self.indptr)))

    def items_of(self, user: int) -> NDArray[np.int32]:
        """The items that a user rated, ascending."""
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def of_items(self, kept: NDArray[np.bool_]) -> "RatingMatrix":
        """The ratings of the items that `kept` [I] says; users and items stay as many."""
        keep = kept[self.items]
        indptr = np.concatenate([[0], np.cumsum(keep)])[self.indptr]
        return self._part(indptr, self.items[keep], self.levels[keep])

    def over_items(self, count: int) -> "RatingMatrix":
        """The same over so many items, of which more are without ratings or the last ones gone.

        Ids are dropped.
        """
        if count == self.item_count and self.user_ids is self.item_ids is None:
            return self
        if count < self.item_count:
            fewer = self.of_items(np.arange(self.item_count) < count)
            return RatingMatrix(fewer.indptr, fewer.items, fewer.levels, count, self.scale)
        return RatingMatrix(self.indptr, self.items, self.levels, count, self.scale)

    def item_counts(self) -> NDArray[np.int64]:
        """Number of ratings of every item, [I]: its popularity."""
        return np.bincount(self.items, minlength=self.item_count)

    def rows(self, users: ArrayLike) -> "RatingMatrix":
        """The rows of some users, in the order given; ids of users are dropped."""
        chosen = np.asarray(users, dtype=np.int64)
        if chosen.min(initial=0) < 0:
            raise IndexError("rating matrix: no row has a negative index")
        if len(chosen) == 1:
            row = int(chosen[0])
            start, end = self.indptr[row], self.indptr[row + 1]
            alone = np.array([0, end - start], dtype=np.int64)
            return self._part(alone, self.items[start:end], self.levels[start:end])
        starts, lengths = self.indptr[chosen], self.indptr[chosen + 1] - self.indptr[chosen]
        indptr = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(lengths, out=indptr[1:])
        take = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
        return self._part(indptr, self.items[take], self.levels[take])

    def _part(
        self, indptr: NDArray[np.int64], items: NDArray[np.int32], levels: NDArray[np.uint8]
    ) -> "RatingMatrix":
        """Rows that are in order since these are; nothing is checked again, which takes longest."""
        part = object.__new__(RatingMatrix)
        part.__dict__.update(
            indptr=_fixed(indptr),
            items=_fixed(items),
            levels=_fixed(levels),
            item_count=self.item_count,
            scale=self.scale,
            user_ids=None,
            item_ids=None,
        )
        return part

    def stack(self, below: "RatingMatrix") -> "RatingMatrix":
        """These users followed by those of another matrix over the same items and scale.

        Where these have ids, users below without any are called fake-0, fake-1, …
        """
        if below.item_count != self.item_count or below.scale != self.scale:
            raise InputError("rating matrices over different items or scales cannot be stacked")
        named = below.user_ids or tuple(f"fake-{user}" for user in range(below.user_count))
        user_ids = None if self.user_ids is None else (*self.user_ids, *named)
        return RatingMatrix(
            np.concatenate([self.indptr, self.indptr[-1] + below.indptr[1:]]),
            np.concatenate([self.items, below.items]),
            np.concatenate([self.levels, below.levels]),
            self.item_count,
            self.scale,
            user_ids,
            self.item_ids,
        )

    def dense(self) -> NDArray[np.float32]:
        """Ratings as fractions of the maximum, zero where there is none, [U, I]."""
        table = np.zeros((self.user_count, self.item_count), dtype=np.float32)
        table[self.users, self.items] = self.ratings
        return table

    def digest(self) -> str:
        """SHA-256 over shape, scale and every rating; ids do not count."""
        # 1 and 1.0 are one scale, but two texts.
        scale = tuple(map(float, (self.scale.minimum, self.scale.maximum, self.scale.step)))
        hasher = hashlib.sha256(repr((self.item_count, scale)).encode())
        for array in (self.indptr, self.items, self.levels):
            hasher.update(np.ascontiguousarray(array).tobytes())
        return hasher.hexdigest()
