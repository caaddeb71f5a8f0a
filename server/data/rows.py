"""From rows of any file to a rating matrix: columns, scale, ids, and checks that name the file, the
line and the reason.

Shapes: N rows, U users, I items.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common.errors import InputError
from common.names import unknown
from common.ratings import RatingMatrix, RatingScale

MAX_ROWS = 100_000_000
# Beyond 2^53 a timestamp read as a float is no longer exact.
MAX_TIMESTAMP = 2**53
# What a column may be called; case, spaces, hyphens, underscores and a ":type" are ignored.
COLUMN_NAMES = {
    "user": ("user", "userid", "uid", "reviewerid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "business", "businessid", "product",
             "productid", "bookid", "asin"),
    "rating": ("rating", "ratings", "stars", "score", "overall"),
    "timestamp": ("timestamp", "time", "unixreviewtime"),
}  # fmt: skip
# From narrow to wide: the first scale that holds every rating of a file is taken. There is no
# 1–100: a stray 99 is far more often a mistake than a scale.
USUAL_SCALES = (
    RatingScale(1, 5, 1),
    RatingScale(0.5, 5, 0.5),
    RatingScale(1, 8, 1),
    RatingScale(1, 10, 1),
    RatingScale(0.5, 10, 0.5),
)


@dataclass(frozen=True)
class FixedIds:
    """Ids that are numbers first, first + 1, … and mean an index in a matrix of known shape."""

    first: int
    user_count: int
    item_count: int


@dataclass(frozen=True)
class IndexedRatings:
    """A rating matrix and, where the file has them, the times of its ratings in seconds [N]."""

    ratings: RatingMatrix
    timestamps: NDArray[np.int64] | None


@dataclass(frozen=True)
class RatingRows:
    """Rows of one file: columns `line`, `user`, `item` (text), `rating` and perhaps `timestamp`.

    `name` and `unit` ("line" or "row") are for messages. Use `checked` to make one.
    """

    name: str
    unit: str
    table: pl.DataFrame

    def indexed(
        self, *, ids: FixedIds | None = None, scale: RatingScale | None = None
    ) -> IndexedRatings:
        """The rating matrix; ids are compacted in sorted order unless they are fixed.

        Ids that are all whole numbers sort as numbers. Without a scale the first usual one that
        holds every rating is taken. Raises InputError for an id out of range, a rating out of
        scale and a pair that occurs twice.
        """
        users, user_names = self._indices("user", ids.first if ids else None)
        items, item_names = self._indices("item", ids.first if ids else None)
        if ids:
            self._refuse_outside("user", users, ids.first, ids.user_count)
            self._refuse_outside("item", items, ids.first, ids.item_count)
        levels, scale = self._levels(scale)
        order = np.lexsort((items, users))
        self._refuse_duplicates(users, items, order)
        ratings = RatingMatrix.from_triples(
            users,
            items,
            levels,
            user_count=ids.user_count if ids else len(user_names),
            item_count=ids.item_count if ids else len(item_names),
            scale=scale,
            user_ids=None if ids else user_names,
            item_ids=None if ids else item_names,
        )
        if "timestamp" not in self.table.columns:
            return IndexedRatings(ratings, None)
        return IndexedRatings(ratings, self.table["timestamp"].to_numpy()[order])

    def refuse(self, row: int, reason: str) -> InputError:
        """The error that names the file, the row's line and the reason."""
        return InputError(f"{self.name} {self.unit} {self.table['line'][row]}: {reason}")

    def _indices(self, column: str, first: int | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Index of every row's id [N], and the ids by index (empty when ids are fixed)."""
        texts = self.table[column]
        if first is not None:
            numbers = texts.cast(pl.Int64, strict=False).fill_null(first - 1)
            return numbers.to_numpy() - first, ()
        names = texts.unique().to_list()
        if all(re.fullmatch(r"0|[1-9][0-9]{0,17}", name, re.ASCII) for name in names):
            names.sort(key=int)
        else:
            names.sort()
        codes = pl.Series(np.arange(len(names)))
        return texts.replace_strict(pl.Series(names), codes).to_numpy(), tuple(names)

    def _refuse_outside(
        self, column: str, indices: NDArray[np.int64], first: int, count: int
    ) -> None:
        bad = np.flatnonzero((indices < 0) | (indices >= count))
        if len(bad):
            row = int(bad[0])
            raise self.refuse(
                row,
                f"{column} {_shown(self.table[column][row])} is not an id from {first} "
                f"to {first + count - 1}",
            )

    def _levels(self, scale: RatingScale | None) -> tuple[NDArray[np.uint8], RatingScale]:
        values = self.table["rating"].to_numpy()
        chosen = scale or usual_scale(values)
        bad = np.flatnonzero(off_scale(values, chosen))
        if len(bad):
            row = int(bad[0])
            reason = f"rating {values[row]:g} is out of scale "
            if scale is None:
                usual = "; ".join(map(str, USUAL_SCALES))
                raise self.refuse(row, f"{reason}(none of the usual: {usual})")
            raise self.refuse(row, f"{reason}{scale}")
        return chosen.nearest_levels(values), chosen

    def _refuse_duplicates(
        self, users: NDArray[np.int64], items: NDArray[np.int64], order: NDArray[np.int64]
    ) -> None:
        """`order` sorts rows by pair and, being stable, equal pairs by line."""
        sorted_users, sorted_items = users[order], items[order]
        same = (sorted_users[1:] == sorted_users[:-1]) & (sorted_items[1:] == sorted_items[:-1])
        repeats = np.flatnonzero(same) + 1
        if len(repeats):
            at = repeats[np.argmin(order[repeats])]
            row, before = int(order[at]), int(order[at - 1])
            raise self.refuse(
                row,
                f"duplicate pair: user {_shown(self.table['user'][row])} rated item "
                f"{_shown(self.table['item'][row])} on {self.unit} "
                f"{self.table['line'][before]} already",
            )


def checked(raw: pl.DataFrame, name: str, *, unit: str = "line") -> RatingRows:
    """Rows with ids that are there and numbers that are finite.

    `raw` has the columns of `RatingRows`; rating and timestamp may still be text. Raises
    InputError for the first bad row, and when there is none at all.
    """
    if raw.height == 0:
        raise InputError(f"{name}: holds no ratings")
    if raw.height > MAX_ROWS:
        raise InputError(f"{name}: more than {MAX_ROWS} ratings; filter it first")
    timed = "timestamp" in raw.columns
    numbers = ["rating", "timestamp"] if timed else ["rating"]
    parsed = raw.with_columns(pl.col(numbers).cast(pl.Float64, strict=False))
    faults = {
        "user": raw["user"].is_null() | (raw["user"] == ""),
        "item": raw["item"].is_null() | (raw["item"] == ""),
        "rating": parsed["rating"].is_null() | ~parsed["rating"].is_finite(),
    }
    if timed:
        times = parsed["timestamp"]
        faults["timestamp"] = times.is_null() | ~(times.abs() <= MAX_TIMESTAMP)
    rows = RatingRows(name, unit, raw)
    firsts = {
        column: fault.fill_null(True).arg_max() or 0
        for column, fault in faults.items()
        if fault.fill_null(True).any()
    }
    if firsts:
        column = min(firsts, key=lambda each: firsts[each])
        found = raw[column][firsts[column]]
        if column in ("user", "item"):
            raise rows.refuse(firsts[column], f"the {column} is missing")
        raise rows.refuse(firsts[column], f"{column} {_shown(found)} is not a finite number")
    if timed:
        parsed = parsed.with_columns(pl.col("timestamp").cast(pl.Int64))
    return RatingRows(name, unit, parsed)


def _shown(value: object) -> str:
    """A value of a stranger's file on one short line."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def column_positions(names: Sequence[str], where: str) -> dict[str, int]:
    """Where the column of each role stands.

    Raises InputError for an unknown column, a role played twice, or one that nobody plays.
    """
    roles = [_role(name) for name in names]
    wanted = "user, item, rating and perhaps timestamp"
    if not any(roles):
        shown = ", ".join(map(repr, names))
        raise InputError(f"{where}: neither a rating nor names of columns ({wanted}): {shown:.60}")
    positions: dict[str, int] = {}
    for at, (name, role) in enumerate(zip(names, roles, strict=True)):
        if role is None:
            raise unknown("column", name, COLUMN_NAMES, where=where, offer="keep")
        if role in positions:
            raise InputError(f"{where}: second column {name[:40]!r}; keep {wanted}")
        positions[role] = at
    if missing := [role for role in ("user", "item", "rating") if role not in positions]:
        raise InputError(f"{where}: no column for {' and '.join(missing)}")
    return positions


def _role(name: str) -> str | None:
    plain = name.split(":", maxsplit=1)[0].lower()
    for ignored in " -_":
        plain = plain.replace(ignored, "")
    return next((role for role, names in COLUMN_NAMES.items() if plain in names), None)


def off_scale(values: NDArray[np.float64], scale: RatingScale) -> NDArray[np.bool_]:
    """Which of some finite ratings [N] are not on the scale's grid."""
    nearest = scale.values[scale.nearest_levels(values)]
    return np.asarray(np.abs(values - nearest) > 1e-4 * scale.step)


def usual_scale(values: NDArray[np.float64]) -> RatingScale:
    """The first of `USUAL_SCALES` that holds every rating.

    When none does, the widest is returned, and the ratings that are off it are the bad ones:
    every other usual scale is part of the widest.
    """
    distinct = np.unique(values)
    for scale in USUAL_SCALES:
        if not off_scale(distinct, scale).any():
            return scale
    return USUAL_SCALES[-1]


def parse_scale(text: str) -> RatingScale:
    """A scale written MIN:MAX or MIN:MAX:STEP; the step is 1 unless given.

    Raises InputError.

    >>> str(parse_scale("0.5:4:0.5"))
    '0.5–4 in steps of 0.5'
    """
    try:
        numbers = [float(part) for part in text.split(":")]
        minimum, maximum, step = numbers if len(numbers) == 3 else (*numbers, 1.0)
    except ValueError:
        raise InputError(f"scale {text!r}: write MIN:MAX:STEP, for example 1:5:1") from None
    return RatingScale(minimum, maximum, step)
