"""From rows of any file to a rating matrix: checks that name the file, the line and the reason.

Shapes: N rows, U users, I items.
"""

import re
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.data.blanks import without_empty, without_nameless
from server.data.doubts import Doubt, doubts_about
from server.data.duplicates import Repeats, repeats_of
from server.data.held_out import HeldOut
from server.data.limits import most_rows
from server.data.reading_options import EMPTY, ReadingOptions
from server.data.scales import USUAL_SCALES, WantedScale, settled, suggestion
from server.data.spellings import is_nothing, plain_ids, ratings_of
from server.data.texts import Coded, coded
from server.data.times import as_seconds, unreadable
from server.data.triples import Triples, chosen

# Every interaction is as much as any other.
IMPLICIT = RatingScale(1, 1, 1)
# Of a folder of files: which of them a row is of.
PART = "part"
_MOST_INDEX = 2**31 - 2
# Rows that are worked on at once.
_CHUNK = 1 << 20


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
    """Rows of one file: columns `line`, `user`, `item` (as codes), `rating`, perhaps `timestamp`.

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
        wanted = rows.options.scale
        if scale is not None:
            wanted = WantedScale(scale.minimum, scale.maximum, scale.step)
        graded, levels, shift, said = rows._levels(wanted)
        tested = np.zeros(len(users), dtype=bool)
        tested[rows.table.height - rows.test_rows :] = True
        once, again = rows._once(Triples(users, items, levels, rows._times(), tested))
        kept, core = _dense_enough(once, rows.options.min_ratings, self.name)
        told: list[str] = []
        if rows.test_rows:
            kept, told = chosen(kept, seed=seed)
            if not kept.tested.any():
                raise InputError(
                    f"{self.test_name}: holds no user of {self.name}: are ids written otherwise?"
                )
        if not ids and len(kept.users) < len(once.users):
            kept, user_names, item_names = kept.compacted(user_names, item_names)
        shape = (ids.user_count, ids.item_count) if ids else (len(user_names), len(item_names))
        names = (None, None) if ids else (user_names, item_names)
        ratings, timestamps = kept.matrix(graded, shape, *names), kept.times
        held_out = None
        if rows.test_rows:
            out = kept.take(kept.tested)
            held_out = HeldOut.of(out.users, out.items, out.levels, shape[0])
        doubts = () if ids else doubts_about(ratings, timestamps, rows.table, rows.options)
        notes = (*rows.notes, *said, *again, *core, *told)
        return IndexedRatings(ratings, timestamps, notes, doubts, shift, held_out)

    def refuse(self, row: int, reason: str) -> InputError:
        """The error that names the file, the row's line and the reason."""
        name = self.name if row < self.table.height - self.test_rows else self.test_name
        if PART in self.table.columns:
            name = f"{name}/{self.table[PART][row]}"
        return InputError(f"{name} {self.unit} {self.table['line'][row]}: {reason}")

    def _without_dropped(self) -> "RatingRows":
        """Without rows whose rating means none. Raises InputError when none is left."""
        if "rating" not in self.table.columns:
            return self
        rating = pl.col("rating")
        values = [each for each in self.options.drop_ratings or () if isinstance(each, float)]
        if not values and not self.options.implicit:
            return self
        dropped = rating.is_in(values)
        if self.options.implicit:
            dropped = dropped | (rating <= 0)
        drops = self.table.select(dropped.alias("drop"))["drop"]
        if not (count := int(drops.sum())):
            return self
        if count == self.table.height:
            raise InputError(f"{self.name}: no rating is left after --drop-ratings")
        tested = int(drops[self.table.height - self.test_rows :].sum()) if self.test_rows else 0
        said = ", ".join(f"{each:g}" for each in values or (0,))
        note = f"{count} rows left out: their rating is {said}, which means none"
        return replace(
            self,
            table=self.table.filter(~drops),
            notes=(*self.notes, note),
            test_rows=self.test_rows - tested,
        )

    def _indices(self, column: str, first: int | None) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """Index of every row's id [N], and the ids by index (empty when ids are fixed)."""
        found = Coded.of(self.table[column])
        if first is not None:
            numbers = found.texts.cast(pl.Int64, strict=False).fill_null(first - 1).to_numpy()
            # What is beyond all indices is as wrong as what is below them.
            numbers = np.where((numbers < first) | (numbers > _MOST_INDEX), first - 1, numbers)
            return found.spread((numbers - first).astype(np.int32)), ()
        names = found.texts.to_list()
        if all(re.fullmatch(r"0|[1-9][0-9]{0,17}", name, re.ASCII) for name in names):
            order = np.argsort(np.array(list(map(int, names))))
        else:
            order = np.array(sorted(range(len(names)), key=names.__getitem__))
        ranks = np.empty(len(names), dtype=np.int32)
        ranks[order] = np.arange(len(names), dtype=np.int32)
        return found.spread(ranks), tuple(names[at] for at in order)

    def _refuse_outside(
        self, column: str, indices: NDArray[np.int32], first: int, count: int
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
        values = self.table["rating"]
        # Distinct ratings are few, and the first that is on no scale is the first row's that is.
        distinct = values.unique(maintain_order=True).to_numpy()
        found = settled(distinct, wanted)
        if not isinstance(found, int):
            return found.scale, _spread(values, distinct, found.levels), found.shift, found.notes
        bad, hint = float(distinct[found]), suggestion(distinct)
        row = (values == bad).arg_max() or 0
        reason = f"rating {bad:g} is out of scale "
        if wanted is None:
            usual = "; ".join(map(str, USUAL_SCALES))
            raise self.refuse(row, f"{reason}(none of the usual: {usual}): {hint}")
        raise self.refuse(row, f"{reason}{_scale_text(wanted)}: {hint}")

    def _times(self) -> NDArray[np.int64] | None:
        if "timestamp" not in self.table.columns:
            return None
        return self.table["timestamp"].to_numpy()

    def _once(self, found: Triples) -> tuple[Triples, list[str]]:
        """One row of each pair, by user and then item; and notes."""
        repeats = repeats_of(found)
        if isinstance(repeats, Triples):
            return repeats, []
        if self.test_rows:
            self._refuse_in_both(repeats)
        how = self.options.duplicates
        if how is None and self.options.implicit:
            how = "latest"
        if repeats.conflicts and how in (None, "refuse"):
            row, before = repeats.first_conflict
            more = (
                "" if repeats.conflicts == 1 else f", and {repeats.conflicts - 1} more such pairs"
            )
            raise self.refuse(
                row,
                f"duplicate pair: user {_shown(self.table['user'][row])} rated item "
                f"{_shown(self.table['item'][row])} on {self.unit} "
                f"{self.table['line'][before]} already{more}: say which counts with --duplicates "
                f"latest, first or mean{self._nobody(row)}",
            )
        notes = []
        if repeats.same:
            notes.append(f"{repeats.same} rows that repeat another one exactly are left out")
        if repeats.conflicts:
            what = "counted once" if self.options.implicit else f"the {how} counts"
            notes.append(f"{repeats.conflicts} pairs of a user and an item occur again: {what}")
        return repeats.settled(how or "first", found), notes

    def _nobody(self, row: int) -> str:
        """What else to do where an id is a word for none."""
        ids = [each for role in ("user", "item") if is_nothing(each := self.table[role][row])]
        return f", or --drop-ids {ids[0]} if that is nobody" if ids else ""

    def _refuse_in_both(self, found: Repeats) -> None:
        """Raises InputError for a pair that is held out and trained on."""
        first_test = self.table.height - self.test_rows
        both = found.groups_across(first_test)
        if len(both):
            raise self.refuse(
                int(both[0]),
                f"a held-out pair is in {self.name} too, and so are {len(both) - 1} more",
            )


def together(name: str, parts: list[tuple[str, RatingRows]]) -> RatingRows:
    """Rows of several files as those of one. Raises InputError where they have other columns."""
    first_name, first = parts[0]
    tables = []
    for each, rows in parts:
        if rows.table.columns != first.table.columns:
            raise InputError(f"{name}: {each} has other columns than {first_name}")
        label = pl.lit(each, dtype=pl.Categorical)
        tables.append(rows.table.with_columns(label.alias(PART)))
    notes = list(dict.fromkeys(note for _, rows in parts for note in rows.notes))
    return replace(
        first,
        name=name,
        table=pl.concat(tables),
        notes=(f"{len(parts)} files of one data set", *notes),
    )


def _dense_enough(rows: Triples, least: int | None, name: str) -> tuple[Triples, list[str]]:
    """Without users and items of fewer ratings, and a note. Raises InputError when none is left."""
    if least is None or least < 2:
        return rows, []
    core = rows.core(least)
    if not core.any():
        raise InputError(f"{name}: --min-ratings {least} leaves no rating; give fewer")
    gone = len(core) - int(core.sum())
    note = f"{gone} ratings left out: of users or items with fewer than {least} (--min-ratings)"
    return rows.take(core), [note] if gone else []


def _spread(
    values: pl.Series, distinct: NDArray[np.float64], levels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Every row's level [N], by that of its rating."""
    order = np.argsort(distinct)
    ordered, graded = distinct[order], levels[order]
    found = np.empty(len(values), dtype=np.uint8)
    numbers = values.to_numpy()
    for start in range(0, len(found), _CHUNK):
        part = slice(start, start + _CHUNK)
        found[part] = graded[np.searchsorted(ordered, numbers[part])]
    return found


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
    if raw.height > (most := most_rows()):
        raise InputError(f"{name}: more than {most} ratings, which need more memory than is free")
    raw = raw.with_columns(coded(raw[role]) for role in ("user", "item"))
    raw, said = without_nameless(raw, options.drop_ids or (), name)
    numbers, spelled = None, list[str]()
    if "rating" in raw.columns:
        numbers, spelled = ratings_of(raw["rating"], options.meanings)
        raw, numbers, gone = without_empty(raw, numbers, options, name)
        said += [*spelled, *gone]
    for role in ("user", "item"):
        plain, told = plain_ids(raw[role], role)
        raw, said = raw.with_columns(plain), [*said, *told]
    faults = {role: raw[role].is_null() | (raw[role] == "") for role in ("user", "item")}
    parsed = raw
    if numbers is not None:
        faults["rating"] = numbers.is_null() | ~numbers.is_finite()
        parsed = parsed.with_columns(numbers.alias("rating"))
    if "timestamp" in raw.columns:
        try:
            times, faults["timestamp"], told = as_seconds(raw["timestamp"], options.time_unit)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        parsed, said = parsed.with_columns(times.alias("timestamp")), [*said, *told]
    rows = RatingRows(name, unit, raw)
    firsts = {
        column: fault.fill_null(True).arg_max() or 0
        for column, fault in faults.items()
        if fault.fill_null(True).any()
    }
    if firsts:
        column = min(firsts, key=lambda each: firsts[each])
        raise rows.refuse(firsts[column], _fault(column, raw[column][firsts[column]]))
    return RatingRows(name, unit, parsed, options, (*notes, *said))


def _fault(column: str, found: object) -> str:
    """What to say of a value that a column cannot have."""
    if column in ("user", "item"):
        return f"the {column} is missing (--drop-ids {EMPTY} leaves such rows out)"
    if column == "timestamp":
        return unreadable(found)
    way = f"--drop-ratings {EMPTY}"
    if isinstance(found, str) and not is_nothing(found):
        way += ", --words"
    return f"rating {_shown(found)} is not a finite number ({way})"


def _scale_text(wanted: WantedScale) -> str:
    if wanted.minimum is None or wanted.maximum is None or wanted.step is None:
        return str(wanted)
    return f"{wanted.minimum:g}–{wanted.maximum:g} in steps of {wanted.step:g}"


def _shown(value: object) -> str:
    """A value of a stranger's file on one short line."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
