"""Profiles as others publish them, read as they are: tables, lists and CSV of other forms.

    .npy   a table fakes × items of ratings, of ratings ÷ maximum, or of 0 and 1; or rows of
           user, item and perhaps rating
    JSON   a list of profiles: each a list of items, of [item, rating] pairs, an object of ratings
           by item, or a row of the whole table; or a list of [user, item, rating], or of objects
           with such keys; or an object of profiles by user. An object may have `targets`, `goal`
           and `audience` beside its `profiles`
    text   rows of user, item and perhaps rating and time, under any usual column names, or the
           whole table; separated by commas, tabs, semicolons, :: or spaces

What is not said is taken in the one way that fits. Ratings on the data's grid are what they are;
those in (0, 1] whose multiples by the maximum are on it are fractions; where every rating is 1,
and where there is none, the rows are interactions, each the maximum; and ratings on another usual
scale, as 1–10, are multiplied to this one and rounded to its grid. Items count from 0; from 1 where
0 does not occur and one more than the last item does. `Read.how` says what was taken.

Shapes: N ratings, I items.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.data.rows import COLUMN_NAMES, USUAL_SCALES

# Decoded, a list of numbers takes some ten times its text.
MAX_JSON_BYTES: Final = 64 << 20
MAX_NAME: Final = 100
# FilmTrust as published; this project stores it as 1–8.
SCALES: Final = (RatingScale(0.5, 4, 0.5), *USUAL_SCALES)
PROFILE_KEYS: Final = ("profiles", "ratings", "fakes", "fake_profiles", "data")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
_SEPARATORS: Final = ("::", "\t", ";", ",")
_TRIPLE: Final = 3
_WHAT_IS_READ: Final = (
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
        """Raises InputError, with the place, for what is no number."""
        self.items.append(_number(item, self.unit, place))
        self.users.append(user)
        self.places.append(place)
        if self.values is not None:
            self.values.append(_number(value, self.unit, place))

    def add_row(self, user: object, row: Iterable[object], place: int) -> None:
        """The ratings of a row of the whole table; 0 is none."""
        for item, value in enumerate(row):
            if _number(value, self.unit, place):
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
        return _misplaced(self.unit, self.places[index], reason)

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


def read_text(
    lines: list[str], start: int, item_count: int, scale: RatingScale, *, nameless: bool
) -> Read:
    """Rows of numbers from line `start` on, counted from 0. Raises InputError, with the line.

    nameless  whether rows of numbers may stand without column names
    """
    rows = [(place, line) for place, line in enumerate(lines[start:], start + 1) if line.strip()]
    if not rows:
        raise _misplaced("line", start + 1, _WHAT_IS_READ)
    separator = next((each for each in _SEPARATORS if each in rows[0][1]), None)
    cells = [(place, [_cell(word) for word in line.split(separator)]) for place, line in rows]
    first = cells[0][1]
    named = not all(_NUMBER.fullmatch(cell) for cell in first)
    if _is_table(first, cells, item_count):
        numbered = len(first) == item_count + 1
        body = cells[numbered:]
        entries = Entries("a table in text")
        for place, row in body:
            if len(row) != len(first):
                raise _misplaced("line", place, f"{len(row)} columns, where there are {len(first)}")
            entries.add_row(place, row[numbered:], place)
        ratings, how = entries.settled(item_count, scale)
        return Read(ratings, {}, how)
    if not named and not nameless:
        raise _misplaced("line", cells[0][0], _WHAT_IS_READ)
    positions = _positions(first, cells[0][0]) if named else _nameless(len(first), cells[0][0])
    entries = Entries(f"columns {','.join(first)}"[:200] if named else "rows without names")
    if "rating" not in positions:
        entries.values = None
    for place, row in cells[named:]:
        if len(row) != len(first):
            raise _misplaced("line", place, f"{len(row)} columns, where there are {len(first)}")
        user = row[positions["user"]]
        if not user or len(user) > MAX_NAME:
            raise _misplaced("line", place, f"no user: {user[:40]!r}")
        value = row[positions["rating"]] if "rating" in positions else None
        entries.add(user, row[positions["item"]], value, place)
    ratings, how = entries.settled(item_count, scale)
    return Read(ratings, {}, how)


def read_array(table: NDArray[Any], item_count: int, scale: RatingScale) -> Read:
    """A table of fakes × items, or rows of user, item and perhaps rating.

    Raises InputError for one of another shape, or of something else than numbers.
    """
    columns = table.shape[1] if table.ndim == 2 else 0  # rows and columns
    if columns != item_count and columns not in (2, 3):
        raise InputError(
            f"expected a table of fakes × {item_count} items, or rows of user, item and rating"
        )
    if table.dtype.kind not in "fiub" or not np.isfinite(table).all():
        raise InputError("holds values that are not numbers")
    if columns == item_count:
        users, items = np.nonzero(table)
        values = table[users, items].astype(np.float64)
        entries = Entries("a table", "row")
        entries.values = values.tolist()
    else:
        numbers = table.astype(np.float64)
        users, items = numbers[:, 0], numbers[:, 1]
        entries = Entries("rows of user, item" + (", rating" if columns == _TRIPLE else ""), "row")
        entries.values = numbers[:, 2].tolist() if columns == _TRIPLE else None
    entries.users, entries.items = users.tolist(), items.tolist()
    entries.places = (users if columns == item_count else np.arange(len(table))).tolist()
    ratings, how = entries.settled(item_count, scale, fractions=columns == item_count)
    return Read(ratings, {}, how)


def read_json(data: bytes, item_count: int, scale: RatingScale) -> Read:
    """Lists or objects of profiles. Raises InputError."""
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"larger than {MAX_JSON_BYTES >> 20} MiB; split it, or write a .npy table")
    try:
        found = json.loads(data, parse_constant=_no_number, object_pairs_hook=_unique)
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"not JSON that can be read: {str(error)[:80]}") from error
    said: dict[str, str] = {}
    if isinstance(found, dict):
        key = next((key for key in PROFILE_KEYS if key in found), None)
        if key is not None:
            said = {name: _words(found[name]) for name in _SAID if name in found}
            found = found[key]
    entries = _of_json(found, item_count)
    ratings, how = entries.settled(item_count, scale)
    return Read(ratings, said, how)


_SAID: Final = ("targets", "goal", "audience")


def _of_json(found: object, item_count: int) -> Entries:
    if not isinstance(found, list | dict):
        raise InputError("expected a list or an object of profiles")
    named = isinstance(found, dict)
    # Lists and objects alike, which the kind says; Any, since their members can be anything.
    profiles: list[tuple[object, Any]] = list(found.items() if named else enumerate(found))
    kinds = {_kind(profile) for _, profile in profiles}
    widths = {len(profile) for _, profile in profiles} if "" not in kinds else set()
    entries = Entries("a list of profiles", "profile")
    if kinds == {"record"} and not named:
        return _of_records([record for _, record in profiles])
    if kinds == {"numbers"} and widths == {item_count}:
        entries.form = "a table in a list"
        for place, (user, row) in enumerate(profiles):
            entries.add_row(user, row, place)
        return entries
    if kinds == {"numbers"} and widths == {_TRIPLE} and not named:
        entries.form, entries.unit = "a list of user, item, rating", "row"
        for place, (_, (user, item, value)) in enumerate(profiles):
            entries.add(user, item, value, place)
        return entries
    if kinds == {"numbers"}:
        entries.form, entries.values = "lists of items", None
    elif kinds not in (set(), {"pairs"}, {"ratings"}):
        raise InputError(
            "expected profiles of one kind: lists of items, lists of [item, rating], objects of "
            "ratings by item, or rows of user, item, rating"
        )
    for place, (user, row) in enumerate(profiles):
        for item, value in _rated(row):
            entries.add(user, item, value, place)
    return entries


def _rated(profile: Any) -> Iterable[tuple[object, object]]:
    """Items and ratings; without ratings, nothing stands for each."""
    if isinstance(profile, dict):
        return profile.items()
    return [each if isinstance(each, list) else (each, None) for each in profile]


def _of_records(found: list[Any]) -> Entries:
    entries = Entries("a list of objects", "row")
    positions = None
    for place, record in enumerate(found):
        if positions is None:
            keys = list(record)
            positions = {name: keys[at] for name, at in _positions(keys, place).items()}
            if "rating" not in positions:
                entries.values = None
        missing = [key for key in positions.values() if key not in record]
        if missing:
            raise _misplaced("row", place, f"has no {missing[0]}")
        user = record[positions["user"]]
        if not isinstance(user, str | int) or len(str(user)) > MAX_NAME:
            raise _misplaced("row", place, "its user is no name and no number")
        value = record[positions["rating"]] if "rating" in positions else None
        entries.add(user, record[positions["item"]], value, place)
    return entries


def _kind(profile: object) -> str:
    """What a profile is a list or an object of; nothing that is read: the empty word."""
    if isinstance(profile, dict):
        return "ratings" if all(_NUMBER.fullmatch(key) for key in profile) else "record"
    if not isinstance(profile, list):
        return ""
    if all(isinstance(each, int | float) for each in profile):
        return "numbers"
    pairs = all(isinstance(each, list) and len(each) == 2 for each in profile)
    return "pairs" if pairs else ""


def _is_table(first: list[str], cells: list[tuple[int, list[str]]], item_count: int) -> bool:
    """A column for each item; with a column of row names also a row of items' numbers above."""
    if item_count <= _TRIPLE + 1:
        return False
    if len(first) == item_count:
        return all(_NUMBER.fullmatch(cell) for cell in first)
    return (
        len(first) == item_count + 1
        and len(cells) > 1
        and first[1:] == [str(item) for item in range(item_count)]
    )


def _positions(names: list[str], place: int) -> dict[str, int]:
    """Where user, item and perhaps rating stand. Raises InputError."""
    plain = [re.sub(r"[\s_\-]|:.*", "", name).lower() for name in names]
    found = {}
    for wanted in ("user", "item", "rating"):
        at = [i for i, name in enumerate(plain) if name in COLUMN_NAMES[wanted]]
        if len(at) > 1 or (not at and wanted != "rating"):
            raise _misplaced("line", place, _WHAT_IS_READ)
        if at:
            found[wanted] = at[0]
    return found


def _nameless(columns: int, place: int) -> dict[str, int]:
    if not 2 <= columns <= 4:  # user, item, rating, time
        raise _misplaced("line", place, _WHAT_IS_READ)
    names = ("user", "item", "rating")[:columns]
    return {name: at for at, name in enumerate(names)}


def _cell(word: str) -> str:
    """Without spaces, and without the quotation marks that some programs put around everything."""
    return word.strip().strip('"')


def _number(value: object, unit: str, place: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _misplaced(unit, place, f"not a number: {value!r:.40}")
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise _misplaced(unit, place, f"not a number: {value[:40]!r}")
    try:
        return float(value)
    except OverflowError:
        raise _misplaced(unit, place, "not a number of a sensible size") from None


def _misplaced(unit: str, place: int, reason: str) -> InputError:
    """Lines are counted from 1 and stand after a colon; rows and profiles are counted from 0."""
    return InputError(f":{place}: {reason}" if unit == "line" else f": {unit} {place}: {reason}")


def _off(values: NDArray[np.float64], scale: RatingScale) -> NDArray[np.bool_]:
    """Which values are not on the grid, within what RatingScale.levels tolerates."""
    exact = (values - scale.minimum) / scale.step
    rounded = np.rint(exact)
    return (np.abs(exact - rounded) >= 1e-3) | (rounded < 0) | (rounded >= scale.level_count)


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a key that occurs twice, of which one would be lost."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found
