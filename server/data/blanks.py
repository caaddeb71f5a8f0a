"""Rows that lack a user, an item or a rating, where that means that they are no ratings."""

import polars as pl

from common.errors import InputError
from server.data.reading_options import EMPTY, ReadingOptions


def without_nameless(
    raw: pl.DataFrame, dropped: tuple[str, ...], name: str
) -> tuple[pl.DataFrame, list[str]]:
    """Without rows whose user or item is one of some texts; and a note."""
    if not dropped:
        return raw, []
    texts = [each for each in dropped if each != EMPTY]
    gone = pl.Series([False]).new_from_index(0, raw.height)
    for role in ("user", "item"):
        ids = raw[role]
        gone = gone | ids.cast(pl.String).is_in(texts).fill_null(False)
        if EMPTY in dropped:
            gone = gone | ids.is_null() | (ids == "").fill_null(True)
    if gone.all():
        raise InputError(f"{name}: no rating is left after --drop-ids")
    if not (count := int(gone.sum())):
        return raw, []
    said = ", ".join(each[:20] for each in dropped)
    return raw.filter(~gone), [f"{count} rows left out: their user or item is {said} (--drop-ids)"]


def without_empty(
    raw: pl.DataFrame, numbers: pl.Series, options: ReadingOptions, name: str
) -> tuple[pl.DataFrame, pl.Series, list[str]]:
    """Without rows whose rating is no number, where that means none; and a note."""
    if EMPTY not in (options.drop_ratings or ()):
        return raw, numbers, []
    kept = numbers.is_finite().fill_null(False)
    if not (gone := raw.height - int(kept.sum())):
        return raw, numbers, []
    if gone == raw.height:
        raise InputError(f"{name}: no rating is a number")
    note = f"{gone} rows left out: their rating is no number"
    return raw.filter(kept), numbers.filter(kept), [note]
