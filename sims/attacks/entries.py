"""Ratings as a file by somebody else gives them, and what is made of its numbers.

Ratings on the data's grid are what they are; those in (0, 1] whose multiples by the maximum are on
it are fractions; where every rating is 1, and where there is none, the rows are interactions, each
the maximum; and ratings on another usual scale, as 1–10, are multiplied to this one and rounded to
its grid. Items count from 0; from 1 where 0 does not occur and one more than the last item does.

Shapes: N ratings.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.data.columns import COLUMN_NAMES
from server.data.scales import USUAL_SCALES

# Of all fakes together; each takes some hundred bytes until the matrix is made.
MAX_RATINGS: Final = 5_000_000
MAX_NAME: Final = 100
# FilmTrust as published; this project stores it as 1–8.
SCALES: Final = (RatingScale(0.5, 4, 0.5), *USUAL_SCALES)
# Of user, item and rating.
TRIPLE: Final = 3
NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
WHAT_IS_READ: Final = (
    "expected the column names user,item,rating (or usual ones like them, as userId,movieId,score),"
    " rows of numbers without names, or a table with a column for each item"
)


@dataclass(frozen=True)
class Read:
    """Ratings, what else the file says (`targets` and so on, as text), and how it was read."""

    ratings: RatingMatrix
    said: Mapping[str, str]
    how: str


@dataclass
class Entries:
    """What a file's rows say, before anything is made of their numbers.

    users   a name for each rating's fake, [N]
    items   [N]
    values  ratings, [N]; None where the file has interactions alone
    places  where each stands in the file, [N], counted in `unit`s
    """

    form: str
    unit: str = "line"
    users: list[object] = field(default_factory=list)
    items: list[float] = field(default_factory=list)
    values: list[float] | None = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def add(self, user: object, item: object, value: object, place: int) -> None:
        """Raises InputError, with the place, for what is no number, and for too many of them."""
        refuse_more(len(self.items) + 1)
        self.items.append(number_at(item, self.unit, place))
        self.users.append(user)
        self.places.append(place)
        if self.values is not None:
            self.values.append(number_at(value, self.unit, place))

    def add_row(self, user: object, row: Iterable[object], place: int) -> None:
        """The ratings of a row of the whole table; 0 is none."""
        for item, value in enumerate(row):
            if number_at(value, self.unit, place):
                self.add(user, item, value, place)

    def settled(
        self, item_count: int, scale: RatingScale, *, fractions: bool = False
    ) -> tuple[RatingMatrix, str]:
        """The rating matrix, and how it was read. Raises InputError, with the place.

        fractions  whether values that may be fractions or ratings are fractions
        """
        items, first = self._items(item_count)
        levels, on = self._levels(scale, fractions)
        names: dict[object, int] = {}
        users = [names.setdefault(user, len(names)) for user in self.users]
        seen = np.array(users, dtype=np.int64) * item_count + items
        order = np.argsort(seen, kind="stable")
        twice = np.flatnonzero(np.diff(seen[order]) == 0)
        if len(twice):
            place = int(order[twice[0] + 1])
            who = f"user {self.users[place]!s:.40}"
            raise self.misplaced(place, f"{who} rates item {items[place]} a second time")
        ratings = RatingMatrix.from_triples(
            users, items, levels, user_count=len(names), item_count=item_count, scale=scale
        )
        return ratings, "; ".join(word for word in (self.form, on, first) if word)

    def misplaced(self, index: int, reason: str) -> InputError:
        """The error that says where a rating stands and what is wrong with it."""
        return misplaced(self.unit, self.places[index], reason)

    def _items(self, item_count: int) -> tuple[NDArray[np.int64], str]:
        given = np.array(self.items, dtype=np.float64)
        first = int(len(given) > 0 and given.max() == item_count and given.min() >= 1)
        bad = np.flatnonzero(
            (given != np.rint(given)) | (given < first) | (given >= item_count + first)
        )
        if len(bad):
            wrong = f"item {given[bad[0]]:g} is none: they lie in 0–{item_count - 1}"
            raise self.misplaced(int(bad[0]), wrong)
        return given.astype(np.int64) - first, "items from 1" if first else ""

    @np.errstate(over="ignore", invalid="ignore")  # of numbers that are on no scale
    def _levels(self, scale: RatingScale, fractions: bool) -> tuple[NDArray[np.uint8], str]:
        top = scale.level_count - 1
        interactions = np.full(len(self.items), top, dtype=np.uint8)
        if self.values is None:
            return interactions, f"interactions, as ratings of {scale.maximum:g}"
        values = np.array(self.values, dtype=np.float64)
        if (values == 1).all():
            return interactions, f"interactions, as ratings of {scale.maximum:g}"
        readings = [(values, ""), (values * scale.maximum, f"ratings ÷ {scale.maximum:g}")]
        for read, how in reversed(readings) if fractions else readings:
            if not _off(read, scale).any():
                return scale.levels(read), how
        for other in SCALES:
            if other != scale and not _off(values, other).any():
                ratio = scale.maximum / other.maximum
                return scale.nearest_levels(values * ratio), f"ratings {other}, as {scale}"
        if fractions and (np.abs(values) <= 1).all():
            read, why = readings[1][0], f"(values are ratings ÷ {scale.maximum:g})"
        else:
            read, why = values, "and the ratings are neither fractions of its maximum nor all on "
            why += "another usual scale"
        off = int(np.flatnonzero(_off(read, scale))[0])
        raise self.misplaced(off, f"rating {read[off]:g} is not on the scale {scale} {why}")


def column_places(names: list[str], place: int) -> dict[str, int]:
    """Where user, item and perhaps rating stand. Raises InputError."""
    plain = [re.sub(r"[\s_\-]|:.*", "", name).lower() for name in names]
    found = {}
    for wanted in ("user", "item", "rating"):
        at = [i for i, name in enumerate(plain) if name in COLUMN_NAMES[wanted]]
        if len(at) > 1 or (not at and wanted != "rating"):
            raise misplaced("line", place, WHAT_IS_READ)
        if at:
            found[wanted] = at[0]
    return found


def refuse_more(count: int) -> None:
    """Raises InputError for more ratings than profiles have."""
    if count > MAX_RATINGS:
        raise InputError(f"more than {MAX_RATINGS} ratings: these are more than profiles")


def number_at(value: object, unit: str, place: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise misplaced(unit, place, f"not a number: {value!r:.40}")
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        raise misplaced(unit, place, f"not a number: {value[:40]!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise misplaced(unit, place, "not a number of a sensible size")
    return number


def misplaced(unit: str, place: int, reason: str) -> InputError:
    """Lines are counted from 1 and stand after a colon; rows and profiles are counted from 0."""
    return InputError(f":{place}: {reason}" if unit == "line" else f": {unit} {place}: {reason}")


def _off(values: NDArray[np.float64], scale: RatingScale) -> NDArray[np.bool_]:
    """Which values are not on the grid, within what RatingScale.levels tolerates."""
    exact = (values - scale.minimum) / scale.step
    rounded = np.rint(exact)
    return (np.abs(exact - rounded) >= 1e-3) | (rounded < 0) | (rounded >= scale.level_count)
