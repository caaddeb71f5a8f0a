"""`vicinal.load`: ratings by name, from a file, or from what is in memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.ratings import RatingScale
from server.data.datasets import Dataset, load_dataset, with_titles
from server.data.frames import dataset_in_memory
from server.data.reading_options import ReadingOptions
from sims.numbers import seed_of
from sims.terminal import notes_wanted


def load(
    source: Any,
    *,
    name: str | None = None,
    seed: int = 0,
    progress: bool = False,
    format: str | None = None,  # noqa: A002 - as the command line calls it
    columns: str | Sequence[str] | Mapping[str, str | int] | None = None,
    fields: str | Sequence[str] | Mapping[str, str] | None = None,
    separator: str | None = None,
    skip_lines: int | None = None,
    header: bool | str | None = None,
    encoding: str | None = None,
    scale: RatingScale | str | None = None,
    drop_ratings: float | str | Sequence[float | str] | None = None,
    words: str | Sequence[str] | Mapping[str, float] | None = None,
    drop_ids: str | Sequence[str] | None = None,
    duplicates: str | None = None,
    implicit: bool = False,
    min_ratings: int | None = None,
    time_unit: str | None = None,
    member: str | None = None,
    test: str | Path | None = None,
    split: str | None = None,
    items: str | Path | None = None,
    item_columns: str | Sequence[str] | Mapping[str, str] | None = None,
) -> Dataset:
    """Ratings of a data set.

    source        `ml-100k` and the like, `synthetic[:UxI]`, a rating file, a polars or pandas
                  frame, a dict or a structured array of columns, a tuple (users, items, ratings[,
                  timestamps]), or a scipy sparse matrix, in which 0 is unrated
    name          of what has none
    seed          of synthetic ratings
    progress      whether a download shows how far it is
    format        a known layout, which says some of what follows (docs/how-to/own-data.md)
    columns       `item,user,rating,time` in the file's order, or {"user": "buyer", …} by name
    fields        the same for lines of JSON
    separator     between fields: a character, `::`, tab or space
    skip_lines    so many lines before the table are left out
    header        whether line 1 names columns
    encoding      of the text
    scale         as `1:5:0.5`, or `-10:10:continuous`; the first usual one that holds every rating
                  unless given
    drop_ratings  that mean none, as [0, -1]: their rows are left out; "empty" for what is no number
    words         what ratings in words mean, as {"up": 1, "down": 0}
    drop_ids      users or items that mean none, as ["NULL"]: their rows are left out; "empty" for
                  nothing at all
    duplicates    of a user's ratings of the same item: latest, first, mean or refuse
    implicit      every row is an interaction; a rating, if there is one, counts them
    min_ratings   users and items with fewer are left out, until none has
    time_unit     seconds, milliseconds, microseconds, nanoseconds, date, day-first or month-first
    member        the file inside a zip archive
    test          a file of ratings that are held out
    split         which rating of a user `evaluate` holds out: random, latest, or given
    items         a file of the items' ids and titles, which results have then
    item_columns  which of its columns these are, as `id=asin,title=name`

    What was done with a file is in `notes`, what looks wrong in it in `doubts`. Raises InputError
    for what cannot be used, with the row and the reason, VicinalError when a data set cannot be
    fetched.
    """
    seed = seed_of(seed)
    reading = ReadingOptions.of(
        format=format,
        columns=columns,
        fields=fields,
        separator=separator,
        skip_lines=skip_lines,
        header=header,
        encoding=encoding,
        scale=scale,
        drop_ratings=drop_ratings,
        words=words,
        drop_ids=drop_ids,
        duplicates=duplicates,
        implicit=implicit,
        min_ratings=min_ratings,
        time_unit=time_unit,
        member=member,
        test=test,
        split=split,
        items=items,
        item_columns=item_columns,
    )
    if not isinstance(source, str | Path):
        return with_titles(dataset_in_memory(source, name=name, reading=reading))
    shown = progress and notes_wanted()
    return load_dataset(str(source), seed=seed, reading=reading, progress=shown)
