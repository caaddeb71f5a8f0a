"""From rows of any file to a rating matrix: checks that name the file, the line and the reason.

Shapes: N rows, U users, I items.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.data.doubts import Doubt, doubts_about
from server.data.duplicates import Repeats, repeats_of
from server.data.held_out import HeldOut, chosen
from server.data.reading_options import ReadingOptions
from server.data.scales import USUAL_SCALES, WantedScale, settled, suggestion
from server.data.times import as_seconds, unreadable

MAX_ROWS = 100_000_000
# Every interaction is as much as any other.
IMPLICIT = RatingScale(1, 1, 1)


@dataclass(frozen=True)
class FixedIds:
    """Ids that are numbers first, first + 1, … and mean an index in a matrix of known shape."""

    first: int
    user_count: int
    item_count: int


@dataclass(frozen=True)
class IndexedRatings:
    """A rating matrix and what came with it.

    timestamps  of its ratings in seconds [N], where the file has them
    notes       what was done with the file, as sentences
    doubts      what looks wrong in it
    shift       what was added to every rating of the file
    held_out    of a test file
    """

    ratings: RatingMatrix
    timestamps: NDArray[np.int64] | None
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    shift: float = 0.0
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class RatingRows:
    """Rows of one file: columns `line`, `user`, `item` (text), `rating` and perhaps `timestamp`.

    `name` and `unit` ("line" or "row") are for messages. Use `checked` to make one. Where a test
    file's rows follow, `test_rows` says how many, and `test_name` whose they are.
    """

    name: str
    unit: str
    table: pl.DataFrame
    options: ReadingOptions = field(default_factory=ReadingOptions)
    notes: tuple[str, ...] = ()
    test_rows: int = 0
    test_name: str = ""

    def with_test(self, test: "RatingRows") -> "RatingRows":
        """These rows, and those that are held out of them."""
        columns = [name for name in self.table.columns if name in test.table.columns]
        table = pl.concat([self.table.select(columns), test.table.select(columns)], how="vertical")
        return replace(self, table=table, test_rows=test.table.height, test_name=test.name)

    def indexed(
        self,
        *,
        ids: FixedIds | None = None,
        scale: RatingScale | None = None,
        seed: int = 0,
    ) -> IndexedRatings:
        """The rating matrix; ids are compacted in sorted order unless they are fixed.

        Ids that are all whole numbers sort as numbers. Without a scale the first usual one that
        holds every rating is taken. `seed` chooses among several ratings of a user in a test file.
        Raises InputError for an id out of range, a rating out of scale and a pair that is rated
        twice, unless the options say what to do.
        """
        rows = self._without_dropped()
        users, user_names = rows._indices("user", ids.first if ids else None)
        items, item_names = rows._indices("item", ids.first if ids else None)
        if ids:
            rows._refuse_outside("user", users, ids.first, ids.user_count)
            rows._refuse_outside("item", items, ids.first, ids.item_count)
            shape = ids.user_count, ids.item_count
        else:
            shape = len(user_names), len(item_names)
        wanted = rows.options.scale
        if scale is not None:
            wanted = WantedScale(scale.minimum, scale.maximum, scale.step)
        graded, levels, shift, said = rows._levels(wanted)
        times = rows._times()
        kept, levels, more = rows._once(users, items, levels, times, shape)
        held_out_rows = kept >= len(rows.table) - rows.test_rows
        users, items = users[kept], items[kept]
        notes = [*rows.notes, *said, *more]
        least = rows.options.min_ratings or 1
        if least > 1:
            core = k_core(users, items, shape, least)
            if not core.any():
                raise InputError(f"{self.name}: no user and item has {least} ratings or more")
            notes.append(
                f"{len(users) - int(core.sum())} ratings left out: of users or items with fewer "
                f"than {least}"
            )
            users, items, levels, held_out_rows = (
                each[core] for each in (users, items, levels, held_out_rows)
            )
            kept = kept[core]
        times = None if times is None else times[kept]
        held_out = None
        if rows.test_rows:
            take, held_out_rows, told = chosen(users, held_out_rows, times, seed=seed)
            notes += told
            users, items, levels, held_out_rows = (
                each[take] for each in (users, items, levels, held_out_rows)
            )
            times = None if times is None else times[take]
        if not ids and (least > 1 or rows.test_rows):
            users, user_names = _compacted(users, user_names)
            items, item_names = _compacted(items, item_names)
            shape = len(user_names), len(item_names)
        if rows.test_rows:
            held_out = HeldOut.of(
                users[held_out_rows], items[held_out_rows], levels[held_out_rows], shape[0]
            )
        ratings = RatingMatrix.from_triples(
            users,
            items,
            levels,
            user_count=shape[0],
            item_count=shape[1],
            scale=graded,
            user_ids=None if ids else user_names,
            item_ids=None if ids else item_names,
        )
        order = np.lexsort((items, users)) if times is not None else None
        timestamps = None if times is None or order is None else times[order]
        doubts = () if ids else doubts_about(ratings, timestamps, rows.table, rows.options)
        return IndexedRatings(ratings, timestamps, tuple(notes), doubts, shift, held_out)

    def refuse(self, row: int, reason: str) -> InputError:
        """The error that names the file, the row's line and the reason."""
        name = self.name if row < self.table.height - self.test_rows else self.test_name
        return InputError(f"{name} {self.unit} {self.table['line'][row]}: {reason}")

    def _without_dropped(self) -> "RatingRows":
        """Without rows whose rating means none. Raises InputError when none is left."""
        if "rating" not in self.table.columns:
            return self
        rating = pl.col("rating")
        dropped = rating.is_in(list(self.options.drop_ratings or ()))
        if self.options.implicit:
            dropped = dropped | (rating <= 0)
        drops = self.table.select(dropped.alias("drop"))["drop"]
        if not (count := int(drops.sum())):
            return self
        if count == self.table.height:
            raise InputError(f"{self.name}: no rating is left after --drop-ratings")
        tested = int(drops[self.table.height - self.test_rows :].sum()) if self.test_rows else 0
        said = ", ".join(f"{each:g}" for each in self.options.drop_ratings or (0,))
        note = f"{count} rows left out: their rating is {said}, which means none"
        return replace(
            self,
            table=self.table.filter(~drops),
            notes=(*self.notes, note),
            test_rows=self.test_rows - tested,
        )

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

    def _levels(
        self, wanted: WantedScale | None
    ) -> tuple[RatingScale, NDArray[np.uint8], float, tuple[str, ...]]:
        """The scale, every row's level on it, what was added to the ratings, and notes."""
        if self.options.implicit:
            return IMPLICIT, np.zeros(self.table.height, dtype=np.uint8), 0.0, ()
        values = self.table["rating"].to_numpy()
        found = settled(values, wanted)
        if not isinstance(found, int):
            return found.scale, found.levels, found.shift, found.notes
        reason = f"rating {values[found]:g} is out of scale "
        if wanted is None:
            usual = "; ".join(map(str, USUAL_SCALES))
            raise self.refuse(found, f"{reason}(none of the usual: {usual}): {suggestion(values)}")
        raise self.refuse(found, f"{reason}{_scale_text(wanted)}: {suggestion(values)}")

    def _times(self) -> NDArray[np.int64] | None:
        if "timestamp" not in self.table.columns:
            return None
        return self.table["timestamp"].to_numpy()

    def _once(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        levels: NDArray[np.uint8],
        times: NDArray[np.int64] | None,
        shape: tuple[int, int],
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8], list[str]]:
        """The rows that are kept, one a pair and ascending; their levels; and notes."""
        found = repeats_of(users * shape[1] + items, levels, times)
        if found is None:
            return np.arange(len(users)), levels, []
        if self.test_rows:
            self._refuse_in_both(found)
        how = self.options.duplicates
        if how is None and self.options.implicit:
            how = "latest"
        if found.conflicts and how in (None, "refuse"):
            row, before = found.first_conflict
            more = "" if found.conflicts == 1 else f", and {found.conflicts - 1} more such pairs"
            raise self.refuse(
                row,
                f"duplicate pair: user {_shown(self.table['user'][row])} rated item "
                f"{_shown(self.table['item'][row])} on {self.unit} "
                f"{self.table['line'][before]} already{more}: say which counts with --duplicates "
                "latest, first or mean",
            )
        notes = []
        if found.same:
            notes.append(f"{found.same} rows that repeat another one exactly are left out")
        if found.conflicts:
            what = "counted once" if self.options.implicit else f"the {how} counts"
            notes.append(f"{found.conflicts} pairs of a user and an item occur again: {what}")
        kept, settled_levels = found.settled(how or "first", levels)
        return kept, settled_levels, notes

    def _refuse_in_both(self, found: Repeats) -> None:
        """Raises InputError for a pair that is held out and trained on."""
        first_test = self.table.height - self.test_rows
        both = found.groups_across(first_test)
        if len(both):
            raise self.refuse(
                int(both[0]),
                f"a held-out pair is in {self.name} too, and so are {len(both) - 1} more",
            )


def k_core(
    users: NDArray[np.int64], items: NDArray[np.int64], shape: tuple[int, int], least: int
) -> NDArray[np.bool_]:
    """Which ratings [N] are left when users and items with fewer are taken away, again and again.

    >>> k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), (3, 2), 2).tolist()
    [True, True, True, True, False]
    """
    kept = np.ones(len(users), dtype=bool)
    while True:
        few_users = np.bincount(users[kept], minlength=shape[0]) < least
        few_items = np.bincount(items[kept], minlength=shape[1]) < least
        wrong = kept & (few_users[users] | few_items[items])
        if not wrong.any():
            return kept
        kept &= ~wrong


def _compacted(
    indices: NDArray[np.int64], names: tuple[str, ...]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Without ids that no rating has any more."""
    left, codes = np.unique(indices, return_inverse=True)
    return codes.astype(np.int64), tuple(names[at] for at in left)


def checked(
    raw: pl.DataFrame,
    name: str,
    *,
    unit: str = "line",
    options: ReadingOptions | None = None,
    notes: tuple[str, ...] = (),
) -> RatingRows:
    """Rows with ids that are there and numbers that are finite.

    `raw` has the columns of `RatingRows`; rating and timestamp may still be text, and a rating
    that is implicit may be missing. Raises InputError for the first bad row, and when there is none
    at all.
    """
    options = options or ReadingOptions()
    if raw.height == 0:
        raise InputError(f"{name}: holds no ratings")
    if raw.height > MAX_ROWS:
        raise InputError(f"{name}: more than {MAX_ROWS} ratings; filter it first")
    faults = {
        "user": raw["user"].is_null() | (raw["user"] == ""),
        "item": raw["item"].is_null() | (raw["item"] == ""),
    }
    parsed = raw
    said: list[str] = []
    if "rating" in raw.columns:
        ratings = raw["rating"].cast(pl.Float64, strict=False)
        faults["rating"] = ratings.is_null() | ~ratings.is_finite()
        parsed = parsed.with_columns(ratings.alias("rating"))
    if "timestamp" in raw.columns:
        times, faults["timestamp"], said = as_seconds(raw["timestamp"], options.time_unit)
        parsed = parsed.with_columns(times.alias("timestamp"))
    rows = RatingRows(name, unit, raw)
    tell: Callable[[str, object], str] = lambda column, found: (  # noqa: E731
        f"the {column} is missing"
        if column in ("user", "item")
        else unreadable(found)
        if column == "timestamp"
        else f"rating {_shown(found)} is not a finite number"
    )
    firsts = {
        column: fault.fill_null(True).arg_max() or 0
        for column, fault in faults.items()
        if fault.fill_null(True).any()
    }
    if firsts:
        column = min(firsts, key=lambda each: firsts[each])
        raise rows.refuse(firsts[column], tell(column, raw[column][firsts[column]]))
    return RatingRows(name, unit, parsed, options, (*notes, *said))


def _scale_text(wanted: WantedScale) -> str:
    if wanted.minimum is None or wanted.maximum is None or wanted.step is None:
        return str(wanted)
    return f"{wanted.minimum:g}–{wanted.maximum:g} in steps of {wanted.step:g}"


def _shown(value: object) -> str:
    """A value of a stranger's file on one short line."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
