"""`vicinal data`: fetch a public data set, say what one looks like, write its ids."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.errors import InputError
from common.text import one_line
from sims.commands.expanding import expanded
from sims.commands.options import writable
from sims.commands.reading import ReadingFlags

if TYPE_CHECKING:
    from server.data.datasets import Dataset

# server.data.datasets loads polars: it is imported where a command runs, so that --help answers at
# once.
app = typer.Typer(
    help="Fetch or describe a data set of ratings, or write its ids.",
    no_args_is_help=True,
    add_completion=False,
)

# What each key of `vicinal data describe --json` means; ratings in the data set's units.
KEYS: Final = {
    "dataset": "its name",
    "source": "the file, or how the ratings were made",
    "first_users": "ids of the first users, by index",
    "first_items": "ids of the first items, by index",
    "first_titles": "their titles, as --items has them, or null",
    "users": "how many users there are",
    "items": "how many items there are",
    "ratings": "how many ratings there are",
    "density": "ratings as a share of users × items",
    "scale.minimum": "the lowest rating",
    "scale.maximum": "the highest rating",
    "scale.step": "between a rating and the next",
    "scale.shift": "what was added to every rating, so that all are positive",
    "mean": "of all ratings",
    "levels[].rating": "a rating of the scale that somebody gave",
    "levels[].count": "how often",
    "ratings_per_user.QUANTILE": "min, p25, median, p75, p99 and max over users",
    "ratings_per_item.QUANTILE": "the same over items",
    "users_with_one_rating": "how many; none of theirs can be held out",
    "items_with_1_to_4_ratings": "how many; targets are drawn from such items",
    "timestamps": "first and last day (UTC), or null",
    "split": "`published`, `given` (a test file), `random` or `latest`",
    "digest": "SHA-256 of the rating matrix",
    "reading": "options of reading that were given, by name",
    "notes": "what was done with the file, as sentences",
    "warnings": "what looks wrong in the ratings: each with a `code`, of those below, and a `text`",
}
# How many ids of each role are shown.
FIRST: Final = 5
# A table has so many levels at most; the JSON has all of them.
MOST_LEVELS: Final = 12

NAME_HELP = "ml-100k, ml-1m, filmtrust, yelp, synthetic[:UxI[xN]], or a rating file."


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to fetch: ml-100k or ml-1m.")],
) -> None:
    """Fetch a data set into the cache (VICINAL_CACHE), verified; print where it is."""
    from server.data.datasets import KNOWN, cache_folder
    from server.data.sources import fetch
    from sims.terminal import notes_wanted

    if name in KNOWN and (supply := KNOWN[name].supply):
        raise InputError(f"{name} cannot be fetched: {supply}")
    fetched = fetch(name, cache_folder(), progress=notes_wanted())
    typer.echo(f"{fetched.path}  (from {fetched.source})")


@app.command("describe")
@expanded()
def describe_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help=NAME_HELP)],
    reading: ReadingFlags,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of synthetic ratings.")] = 0,
) -> None:
    """Say what a data set looks like: its size, ids, scale, popularity and split.

    And what looks wrong in it: as warnings, which `evaluate` and `serve` repeat.
    """
    from server.data.datasets import load_dataset
    from sims.terminal import notes_wanted

    dataset = load_dataset(
        name,
        seed=seed,
        reading=reading.options(),
        progress=notes_wanted() and not as_json,
    )
    description = describe(dataset)
    if as_json:
        typer.echo(json.dumps(description, indent=2))
    else:
        _print_table(description)


@app.command("ids")
@expanded()
def ids_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help=NAME_HELP)],
    reading: ReadingFlags,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", callback=writable, help="The csv file to write."
        ),
    ],
    seed: Annotated[int, typer.Option(min=0, help="Seed of synthetic ratings.")] = 0,
    only: Annotated[
        str | None,
        typer.Option("--only", help="item: without the users, to be given to devices."),
    ] = None,
) -> None:
    """Write which index each user and each item has: a csv of kind, index, id and perhaps title.

    Indices are what devices and results have. They change when the ratings do. The map names all
    users: give devices one of --only item.
    """
    from common.files import write_output
    from common.ids import Names, map_csv
    from server.data.datasets import load_dataset
    from sims.terminal import notes_wanted

    if only not in (None, "item"):
        raise InputError(f"--only {only!r:.40}: choose item")
    dataset = load_dataset(name, seed=seed, reading=reading.options(), progress=notes_wanted())
    ratings = dataset.ratings
    users = None if only else Names(ratings.user_ids)
    text = map_csv(dataset.item_names, ratings.item_count, users, ratings.user_count)
    write_output(output, text.encode())
    whom = "" if only else f"{ratings.user_count} users and "
    typer.echo(f"{output}: {whom}{ratings.item_count} items")


def describe(dataset: "Dataset") -> dict[str, Any]:
    """Facts about a data set, ready for JSON; ratings and mean are in the data set's units."""
    ratings = dataset.ratings
    per_user = np.diff(ratings.indptr)
    scale = ratings.scale
    times = dataset.timestamps
    given = np.bincount(ratings.levels, minlength=scale.level_count)
    own = scale.values - dataset.shift
    split = "random" if dataset.held_out is None else dataset.held_out_kind
    if dataset.reading.split in ("random", "latest"):
        split = dataset.reading.split
    return {
        "dataset": dataset.name,
        "source": dataset.source,
        "first_users": _first(ratings.user_ids, ratings.user_count),
        "first_items": _first(ratings.item_ids, ratings.item_count),
        "first_titles": list(dataset.titles[:FIRST]) if dataset.titles else None,
        "users": ratings.user_count,
        "items": ratings.item_count,
        "ratings": len(ratings),
        "density": len(ratings) / (ratings.user_count * ratings.item_count),
        "scale": {
            "minimum": scale.minimum,
            "maximum": scale.maximum,
            "step": scale.step,
            "shift": dataset.shift,
        },
        "mean": float(own[ratings.levels].mean()),
        "levels": [
            {"rating": float(f"{value:.10g}"), "count": int(count)}
            for value, count in zip(own.tolist(), given.tolist(), strict=True)
            if count
        ],
        "ratings_per_user": _quantiles(per_user),
        "ratings_per_item": _quantiles(ratings.item_counts()),
        "users_with_one_rating": int((per_user == 1).sum()),
        "items_with_1_to_4_ratings": int(np.isin(ratings.item_counts(), range(1, 5)).sum()),
        "timestamps": None if times is None else [_day(times.min()), _day(times.max())],
        "split": split,
        "digest": ratings.digest(),
        "reading": dataset.reading.told(),
        "notes": list(dataset.notes),
        "warnings": [doubt.told() for doubt in dataset.doubts],
    }


def _first(names: tuple[str, ...] | None, count: int) -> list[str]:
    return [*(map(str, range(min(FIRST, count))) if names is None else names[:FIRST])]


def _quantiles(counts: NDArray[Any]) -> dict[str, float]:
    names = {"min": 0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p99": 0.99, "max": 1}
    values = np.quantile(counts, list(names.values()))
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _day(seconds: float) -> str:
    """The date (UTC) of a time in seconds, or the number where no calendar reaches it."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return str(int(seconds))


def _print_table(description: dict[str, Any]) -> None:
    scale = description["scale"]
    shown = {
        **description,
        "density": f"{description['density']:.4%}",
        "scale": _scale(scale),
        "mean": f"{description['mean']:.3f}",
        "levels": _levels(description["levels"], description["ratings"]),
        "timestamps": " to ".join(description["timestamps"] or ["none"]),
        "digest": description["digest"][:16],
    }
    for key in ("ratings_per_user", "ratings_per_item"):
        shown[key] = ", ".join(f"{name} {value:g}" for name, value in description[key].items())
    for key in ("users", "items", "ratings"):
        shown[key] = f"{description[key]:,}"
    for key in ("first_users", "first_items"):
        shown[key] = ", ".join(one_line(name, 40) for name in description[key])
    if shown["first_titles"] is None:
        del shown["first_titles"]
    else:
        titles = (one_line(name or "–", 40) for name in description["first_titles"])
        shown["first_titles"] = " | ".join(titles)
    told = {key: shown.pop(key) for key in ("reading", "notes", "warnings")}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in shown.items():
        # Names of files may hold what rich would take for markup.
        table.add_row(key.replace("_", " "), Text(str(value)))
    for note in told["notes"]:
        table.add_row("note", Text(note))
    for doubt in told["warnings"]:
        table.add_row("warning", Text(doubt["text"]))
    Console().print(table)


def _scale(scale: dict[str, float]) -> str:
    if scale["minimum"] == scale["maximum"]:
        return "none: implicit, every row is an interaction"
    text = "{minimum:g}–{maximum:g} in steps of {step:g}".format(**scale)
    return f"{text}, {scale['shift']:g} added" if scale["shift"] else text


def _levels(levels: list[dict[str, Any]], ratings: int) -> str:
    """How often each rating was given; of many levels the most frequent."""
    often = sorted(levels, key=lambda each: -each["count"])[:MOST_LEVELS]
    shown = sorted(often, key=lambda each: float(each["rating"]))
    text = ", ".join(f"{each['rating']:g}: {each['count'] / ratings:.1%}" for each in shown)
    return text if len(levels) <= MOST_LEVELS else f"{text}, and {len(levels) - len(often)} more"
