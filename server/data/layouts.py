"""Public data sets in the form that their publishers give, by name: bundles of reading options."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal

from common.errors import InputError
from common.names import unknown
from server.data.reading_options import ReadingOptions

# How text is laid out: a rating a line, Netflix's lines under a movie, a row of Jester's matrix, a
# row of any matrix, a user's items in a line.
Form = Literal["lines", "netflix", "matrix", "wide", "lists"]


@dataclass(frozen=True)
class Layout:
    """What one word of --format says.

    what   the data sets that have it, and the files
    named  what names of such files hold, where that is sure
    """

    what: str
    options: ReadingOptions
    form: Form = "lines"
    named: str | None = None


LAYOUTS: Final[dict[str, Layout]] = {
    "movielens": Layout(
        "MovieLens: u.data, ratings.dat, ratings.csv, ml-*.zip",
        ReadingOptions(columns=("user", "item", "rating", "time")),
    ),
    "amazon": Layout(
        "Amazon reviews of 2018 (ratings only) and 2023, csv and JSON",
        ReadingOptions.of(columns="item,user,rating,time", duplicates="latest"),
    ),
    "amazon-2014": Layout(
        "Amazon reviews of 2014: ratings only, and JSON",
        ReadingOptions.of(columns="user,item,rating,time", duplicates="latest"),
    ),
    "goodreads": Layout(
        "UCSD Book Graph: goodreads_interactions, csv and JSON",
        ReadingOptions.of(
            columns="user,item,rating,time", drop_ratings="0", scale="1:5:1", duplicates="latest"
        ),
        named=r"^goodreads_",
    ),
    "bookcrossing": Layout(
        "Book-Crossing: BX-Book-Ratings.csv",
        ReadingOptions.of(columns="user,item,rating", drop_ratings="0", scale="1:10:1"),
        named=r"^BX-?Book-?Ratings|^BX[-_]",
    ),
    "lastfm": Layout(
        "Last.fm 360K (plays.tsv) and HetRec 2011 (user_artists.dat)",
        ReadingOptions.of(columns="user,-,item,rating", implicit=True),
        named=r"^usersha1-|^user_artists",
    ),
    "lastfm-1k": Layout(
        "Last.fm 1K: userid-timestamp-artid-artname-traid-traname.tsv; items are artists",
        ReadingOptions.of(columns="user,time,-,item,-,-", implicit=True, separator="tab"),
        named=r"^userid-timestamp-artid",
    ),
    "lightgcn": Layout(
        "train.txt and test.txt of NGCF and LightGCN: a user and all its items in a line",
        ReadingOptions(implicit=True),
        form="lists",
    ),
    "matrix": Layout(
        "a row a user, a column an item, perhaps with their ids; nothing for no rating",
        ReadingOptions(),
        form="wide",
    ),
    "netflix": Layout(
        "Netflix prize: combined_data_*.txt, mv_*.txt",
        ReadingOptions.of(scale="1:5:1", time_unit="date"),
        form="netflix",
        named=r"^combined_data_|^mv_[0-9]{7}",
    ),
    "steam": Layout(
        "Steam reviews of UCSD, lines of Python or JSON",
        ReadingOptions.of(implicit=True, fields="user=username,item=product_id,time=date"),
        named=r"^steam_reviews|^steam_python",
    ),
    "jester": Layout(
        "Jester: the matrix of jokes, 99 for none, or a rating a line",
        ReadingOptions.of(drop_ratings="99", scale="-10:10:continuous"),
        form="matrix",
        named=r"^jester",
    ),
    "yelp": Layout(
        "Yelp: yelp_academic_dataset_review.json",
        ReadingOptions.of(
            fields="user=user_id,item=business_id,rating=stars,time=date",
            scale="1:5:1",
            duplicates="latest",
        ),
    ),
}


def with_layout(options: ReadingOptions) -> ReadingOptions:
    """What is said, and what the layout says that it names. Raises InputError for another name."""
    if options.format is None:
        return options
    layout = layout_named(options.format)
    return options.over(replace(layout.options, format=options.format))


@contextmanager
def hinting(name: str, options: ReadingOptions) -> Iterator[None]:
    """Say of which layout a file seems to be that is refused, by its name, where none is named."""
    try:
        yield
    except InputError as error:
        layout = next(
            (
                each
                for each, layout in LAYOUTS.items()
                if layout.named and re.search(layout.named, name, re.IGNORECASE)
            ),
            None,
        )
        if options.format is not None or layout is None or type(error) is not InputError:
            raise
        raise InputError(f"{error}; is it of --format {layout}?") from error


def layout_named(name: str) -> Layout:
    """Raises InputError."""
    if name not in LAYOUTS:
        raise unknown("format", name, LAYOUTS)
    return LAYOUTS[name]


def form_of(options: ReadingOptions) -> Form:
    """How the text is laid out."""
    return "lines" if options.format is None else layout_named(options.format).form
