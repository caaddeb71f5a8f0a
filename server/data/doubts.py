"""What looks wrong in ratings that could be read: said before anybody trains on them.

Shapes: N rows or ratings, U users, I items.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.text import one_line
from server.data.reading_options import ReadingOptions
from server.data.spellings import NOTHING
from server.data.texts import Coded

# What each code means, for docs/reference.md.
CODES: Final = {
    "constant-ratings": "every rating is the same: they say who met what, and no more",
    "unused-top": "nobody gives the highest rating of the scale, which fakes will give",
    "one-rating-users": "most users have a single rating, of which none can be held out",
    "running-number": "a column counts the rows: an index was taken for users or items",
    "swapped": "users have ids as items have, and items as users",
    "alike-ids": "ids that differ in a way that people do not see: 7 and 7.0",
    "missing-ids": "an id that is a word for none, as NULL: one user or item of all who have none",
    "rounded-ids": "ids as 1.2E+11, which a spreadsheet rounded: several may have become one",
    "odd-times": "times before 1990 or after 2100: another unit, or another column",
    "header-as-rating": "the first row has ids unlike all others: it may name the columns",
    "other-contents": "a known data set of the right size that holds other ratings",
    "other-profiles": "fakes that were made for other ratings of the same items",
    "implicit-model": "a model that is fitted to ratings, where every rating is the same",
}
EARLIEST: Final = 631_152_000  # 1990
LATEST: Final = 4_102_444_800  # 2100
LEAST_ROWS: Final = 10
# Of ids that two tables of the same kind have; three quarters of them decide.
_ITEM_LIKE: Final = (
    r"^(?i:b0[0-9a-z]{8}|b[0-9]{5,9}|(item|movie|book|product|prod|sku|asin|track|song|game|i|m|p)"
    r"[_\-]?[0-9]+|97[89][0-9]{10}|[0-9]{9}[0-9x])$"
)
_USER_LIKE: Final = (
    r"^(?i:a[0-9][0-9a-z]{6,20}|(user|usr|reviewer|customer|member|u|c)[_\-]?[0-9]+|.+@.+)$"
)
_MOST: Final = 0.75
_ROUNDED: Final = r"^[0-9]([.,][0-9]+)?[eE]\+[0-9]+$"


@dataclass(frozen=True)
class Doubt:
    """One thing that looks wrong; `code` is one of CODES."""

    code: str
    text: str

    def told(self) -> dict[str, str]:
        """For JSON."""
        return {"code": self.code, "text": self.text}


def doubts_about(
    ratings: RatingMatrix,
    timestamps: NDArray[np.int64] | None,
    table: pl.DataFrame | None,
    options: ReadingOptions,
) -> tuple[Doubt, ...]:
    """What looks wrong, in the order of CODES; `table` has the file's rows."""
    return tuple(_doubts(ratings, timestamps, table, options))


def _doubts(
    ratings: RatingMatrix,
    timestamps: NDArray[np.int64] | None,
    table: pl.DataFrame | None,
    options: ReadingOptions,
) -> Iterator[Doubt]:
    if not options.implicit:
        yield from _of_levels(ratings, options)
    counts = np.diff(ratings.indptr)
    if (single := int((counts == 1).sum())) > len(counts) / 2:
        which = (
            "every user has" if single == len(counts) else f"{single} of {len(counts)} users have"
        )
        yield Doubt(
            "one-rating-users",
            f"{which} one rating, of which none can be held out: --min-ratings 2 leaves them out",
        )
    if table is not None and table.height >= LEAST_ROWS:
        for role in ("user", "item"):
            if _counts_rows(table[role]):
                yield Doubt(
                    "running-number",
                    f"the {role}s are a running number over the rows: say which column is what "
                    "with --columns",
                )
    users, items = ratings.user_ids, ratings.item_ids
    if users is not None and items is not None:
        if _like(users, _ITEM_LIKE) and _like(items, _USER_LIKE):
            yield Doubt(
                "swapped",
                f"users have ids as {one_line(users[0], 20)}, items as {one_line(items[0], 20)}: "
                "perhaps the other way round; say so with --columns item,user,rating,time",
            )
        for role, names in (("user", users), ("item", items)):
            yield from _of_ids(role, names)
    if timestamps is not None and len(timestamps):
        odd = (timestamps < EARLIEST) | (timestamps > LATEST)
        if odd.any():
            yield Doubt(
                "odd-times",
                f"{int(odd.sum())} times are before 1990 or after 2100, as "
                f"{_moment(int(timestamps[odd][0]))}: another unit (--time-unit), or no time?",
            )
    if table is not None and table.height >= LEAST_ROWS and _is_header(table):
        yield Doubt(
            "header-as-rating",
            f"the first row, user {table['user'][0]!r:.40} and item {table['item'][0]!r:.40}, is "
            "unlike all others: are they names of columns? then give --header yes",
        )


def _of_ids(role: str, names: Sequence[str]) -> Iterator[Doubt]:
    if pair := alike(names):
        yield Doubt(
            "alike-ids", f"{role}s {pair[0]!r:.40} and {pair[1]!r:.40} are two: are they one?"
        )
    texts = pl.Series(list(names), dtype=pl.String)
    for none in texts.filter(texts.str.strip_chars().str.to_lowercase().is_in(NOTHING))[:1]:
        yield Doubt(
            "missing-ids",
            f"one {role} is called {none}: is that nobody? then give --drop-ids {none}",
        )
    for rounded in texts.filter(texts.str.contains(_ROUNDED))[:1]:
        yield Doubt(
            "rounded-ids",
            f"{role}s as {rounded} are numbers that a spreadsheet rounded: several may be one now; "
            "write the file anew, with ids as text",
        )


def _of_levels(ratings: RatingMatrix, options: ReadingOptions) -> Iterator[Doubt]:
    scale, levels = ratings.scale, ratings.levels
    if not len(levels):
        return
    most = int(levels.max())
    guess = "" if options.scale else f"; the scale {scale} is a guess"
    if most == int(levels.min()):
        yield Doubt(
            "constant-ratings",
            f"every rating is {scale.values[most]:g}: interactions, not ratings? then give "
            f"--implicit{guess}",
        )
    elif most < scale.level_count - 1:
        used = f"{scale.values[int(levels.min())]:g}:{scale.values[most]:g}:{scale.step:g}"
        yield Doubt(
            "unused-top",
            f"no rating is above {scale.values[most]:g}, though the scale is {scale}: fakes will "
            f"rate {scale.maximum:g}; is it --scale {used}?",
        )


def alike(names: Sequence[str]) -> tuple[str, str] | None:
    """Two ids that people would take for one: by case, zeros, or letters that look the same.

    >>> alike(["7", "8", "7.0"]), alike(["7", "8"])
    (('7', '7.0'), None)
    """
    texts = pl.Series("name", list(names), dtype=pl.String)
    plain = (
        texts.str.normalize("NFKC")
        .str.to_lowercase()
        .str.replace_all(r"\s+", " ")
        .str.replace(r"^(-?[0-9]+)\.0+$", "$1")
        .str.replace(r"^0+([0-9])", "$1")
    )
    if plain.n_unique() == len(plain):
        return None
    frame = pl.DataFrame({"name": texts, "plain": plain})
    twice = frame.filter(pl.col("plain").is_duplicated())
    first = twice["plain"][0]
    same = twice.filter(pl.col("plain") == first)["name"]
    return same[0], same[1]


def _counts_rows(ids: pl.Series) -> bool:
    """Whether ids are 0, 1, 2, … or 1, 2, 3, … in the order of the rows."""
    if ids[0] not in ("0", "1") or ids[1] not in ("1", "2"):
        return False
    # Cheap for nearly all: a running number ends with how many there are.
    last = pl.Series([ids[-1]]).cast(pl.Int64, strict=False)[0]
    if last != len(ids) - 1 + int(ids[0]):
        return False
    numbers = ids.cast(pl.String).cast(pl.Int64, strict=False)
    if numbers.null_count():
        return False
    return bool((numbers.to_numpy() == np.arange(len(ids)) + int(ids[0])).all())


def _like(names: Sequence[str], pattern: str) -> bool:
    texts = pl.Series(list(names), dtype=pl.String)
    share = texts.str.contains(pattern).mean()
    return isinstance(share, float) and share >= _MOST


def _is_header(table: pl.DataFrame) -> bool:
    """Whether the first row's ids are words and all others' are numbers."""
    for role in ("user", "item"):
        first = table[role][0]
        if re.fullmatch(r"-?[0-9.]+", first):
            return False
        if (table[role] == first).sum() > 1:
            return False
        texts = Coded.of(table[role]).texts
        if not texts.filter(texts != first).str.contains(r"^-?[0-9.]+$").all():
            return False
    return True


def _moment(seconds: int) -> str:
    """The day (UTC), or the number where no calendar reaches it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return str(seconds)
