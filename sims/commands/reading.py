"""Options that say how a file of ratings is read: of every command that takes --dataset.

They are those of server.data.reading_options, as words.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:  # heavy, and of no use until a command runs
    from server.data.reading_options import ReadingOptions

# In the help they stand apart: most files need none of them.
PANEL: Final = "How a file of ratings is read"


def _option(flag: str, help_text: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=help_text, metavar=metavar, rich_help_panel=PANEL)


@dataclass(frozen=True)
class ReadingFlags:
    """Every reading option as it is written on the command line."""

    format: Annotated[
        str | None,
        _option(
            "--format",
            "A known layout, which says some of the following: movielens amazon amazon-2014 "
            "goodreads bookcrossing lastfm lastfm-1k lightgcn matrix netflix steam jester yelp.",
            "NAME",
        ),
    ] = None
    columns: Annotated[
        str | None,
        _option(
            "--columns",
            "Which column is what: user,item,rating,time in the order they have, - for others; by "
            "name, as user=buyer,item=sku; or by number, as user=2,item=1.",
            "COLUMNS",
        ),
    ] = None
    fields: Annotated[
        str | None,
        _option(
            "--fields",
            "The same for lines of JSON: user=reviewerID,item=asin,rating=overall.",
            "FIELDS",
        ),
    ] = None
    separator: Annotated[
        str | None,
        _option(
            "--separator", "Between fields: a character, ::, tab or space; default: found.", "TEXT"
        ),
    ] = None
    skip_lines: Annotated[
        int | None,
        _option("--skip-lines", "Leave out so many lines before the table.", "N"),
    ] = None
    header: Annotated[
        str | None,
        _option("--header", "Whether line 1 names columns, yes or no; default: found.", "YES|NO"),
    ] = None
    encoding: Annotated[
        str | None,
        _option(
            "--encoding",
            "Of the text: utf-8, utf-16 and latin-1 are recognized; others have to be named.",
            "NAME",
        ),
    ] = None
    scale: Annotated[
        str | None,
        _option(
            "--scale",
            "Of the ratings: MIN:MAX:STEP, or MIN:MAX:continuous; default: the first usual one "
            "that holds every rating: 1:5:1, 0.5:5:0.5, 1:8:1, 1:10:1, 0.5:10:0.5.",
            "SCALE",
        ),
    ] = None
    drop_ratings: Annotated[
        str | None,
        _option(
            "--drop-ratings",
            "Ratings that mean none, as 0,-1,99, and empty for what is no number: left out.",
            "NUMBERS",
        ),
    ] = None
    words: Annotated[
        str | None,
        _option("--words", "What ratings in words mean: up=1,down=0.", "WORD=N"),
    ] = None
    drop_ids: Annotated[
        str | None,
        _option(
            "--drop-ids",
            "Users or items that mean none, as NULL,-1, and empty for nothing at all: left out.",
            "IDS",
        ),
    ] = None
    duplicates: Annotated[
        str | None,
        _option(
            "--duplicates",
            "Of a user's ratings of the same item: latest, first, mean, or refuse (default).",
            "WHICH",
        ),
    ] = None
    implicit: Annotated[
        bool,
        _option(
            "--implicit", "Every row is an interaction; a rating, if there is one, counts them."
        ),
    ] = False
    min_ratings: Annotated[
        int | None,
        _option(
            "--min-ratings", "Leave out users and items with fewer ratings, until none has.", "N"
        ),
    ] = None
    time_unit: Annotated[
        str | None,
        _option(
            "--time-unit",
            "seconds, milliseconds, microseconds, nanoseconds, date, day-first or month-first; "
            "default: recognized.",
            "UNIT",
        ),
    ] = None
    member: Annotated[
        str | None,
        _option("--member", "The file in a zip archive; default: the one of ratings.", "NAME"),
    ] = None
    test: Annotated[
        str | None,
        _option("--test", "A file of ratings to hold out, in the same form.", "FILE"),
    ] = None
    split: Annotated[
        str | None,
        _option(
            "--split",
            "Which rating of a user is held out: random, latest, or given (by --test, or with the "
            "data set); default: given where there is one, else random.",
            "NAME",
        ),
    ] = None

    items: Annotated[
        str | None,
        _option(
            "--items", "A file of ids and titles of the items, which results have then.", "FILE"
        ),
    ] = None
    item_columns: Annotated[
        str | None,
        _option(
            "--item-columns",
            "Of --items: which columns these are, as id=asin,title=name; default: by known names.",
            "COLUMNS",
        ),
    ] = None

    def options(self) -> "ReadingOptions":
        """Raises InputError for what no reading has."""
        from server.data.layouts import with_layout
        from server.data.reading_options import ReadingOptions

        options = ReadingOptions.of(
            **{each.name: getattr(self, each.name) for each in fields(self)}
        )
        with_layout(options)  # an unknown one is told before anything is loaded
        return options
