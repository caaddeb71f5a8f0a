"""`vicinal certify`: what a number of fakes cannot do to a data set, whatever they rate."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from common.errors import InputError
from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.reading import ReadingFlags

if TYPE_CHECKING:  # heavy, and of no use until the command runs
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from common.ratings import RatingMatrix
    from common.vicinal.settings import VicinalSettings
    from sims.evaluation.certified import Certified
    from sims.processes.workers import Workers
    from sims.progress import Report

app = typer.Typer(add_completion=False)
# More accounts than any service has.
MOST_FAKES: Final = 10**10

# What each key of `vicinal certify --json` means.
KEYS: Final = {
    "dataset": "its name",
    "accounts": "how many there are, taken for genuine; fakes are added to them",
    "items": "how many items there are",
    "users": "how many users were asked about",
    "unpopular": "an item with fewer ratings is unpopular",
    "preset": "name of the preset",
    "neighbors_by": "the space in which users are near each other",
    "exploration": "share of users for whom an item needs no raters: left out of every share",
    "assumed[].assumed_fakes": "φ: share of all accounts that may be fakes",
    "assumed[].required_raters": "M: how many raters admit an item among these accounts",
    "assumed[].items": "how many items have so many",
    "assumed[].ratings": "share of all ratings that are of these items: what the share costs",
    "rows[].assumed_fakes": "φ: share of all accounts that may be fakes",
    "rows[].form": "any: whoever the neighbors are; pairwise: fakes only come in between",
    "rows[].fakes": "how many fakes there are",
    "rows[].required_raters": "M: how many raters admit an item among so many accounts",
    "rows[].pairs": "share of (user, unrated item) that they cannot promote",
    "rows[].unpopular": "the same of unpopular items",
    "rows[].items": "share of items that they can promote to no user",
    "rows[].users": "share of users to whom they can promote no unpopular item",
}


@app.command()
@expanded()
def certify(
    reading: ReadingFlags,
    dataset: options.DatasetOption = "ml-100k",
    model: options.ModelOption = "mf",
    preset: options.PresetOption = "vicinal",
    k: options.NeighborsOption = None,
    min_support: options.MinSupportOption = None,
    neighbors_by: options.NeighborsByOption = None,
    assume_fakes: Annotated[
        str | None,
        typer.Option(
            "--assume-fakes",
            help="Share of all accounts that may be fakes, as 3%; several, as 1%,10%, are "
            "compared; default: the preset's.",
            metavar="SHARES",
        ),
    ] = None,
    fakes: Annotated[
        str,
        typer.Option(
            "--fakes",
            help="Numbers of fakes: of accounts, as 10, or shares of those there are, as 3%.",
            metavar="NUMBERS",
        ),
    ] = "1%,3%,5%,10%",
    unpopular: Annotated[
        int,
        typer.Option("--unpopular", min=1, help="An item with fewer ratings is unpopular."),
    ] = 5,
    users: options.UsersOption = None,
    seed: options.SampleSeedOption = 0,
    processes: options.FewProcessesOption = None,
    ray: options.RayOption = None,
    json_file: options.JsonOption = None,
    track: options.TrackOption = None,
) -> None:
    """Say what so many fakes cannot promote, whatever they rate: proved, not measured.

    Takes the ratings for genuine, and trains nothing. Lists still have what exploration and their
    random tail show. docs/theory.md has the proofs.
    """
    from rich.console import Console

    from common.files import write_output
    from common.models import architecture
    from common.vicinal.settings import capped, space_named
    from common.vicinal.settings import preset as preset_named
    from server.data.datasets import load_dataset
    from sims.evaluation.asked import asked_users, chosen
    from sims.evaluation.certified import Certified
    from sims.processes.workers import workers
    from sims.progress import shown
    from sims.recorded import recorded
    from sims.terminal import notes_wanted
    from sims.tracking.places import tracked

    assumed = [options.parse_share("--assume-fakes", part) for part in _parts(assume_fakes)]
    if assume_fakes is not None and not assumed:
        raise InputError(f"--assume-fakes {assume_fakes!r:.40}: give a share, as in 3% or 0.03")
    tried = [
        preset_named(
            preset,
            model=architecture(model),
            neighbors=k,
            min_support=min_support,
            neighbors_by=None if neighbors_by is None else space_named(neighbors_by),
            assumed_fakes=share,
        )
        for share in assumed or [None]
    ]
    if any(each.assumed_fakes == 0 and each.min_support == 1 for each in tried):
        raise InputError(
            "these settings certify nothing: give --assume-fakes a share, or --min-support a "
            "number above 1"
        )
    wanted = asked_users(users)
    parse_fakes(fakes, 1)  # a mistake in them is told before anything is loaded
    places = tracked(track)
    with workers(processes, ray, usual=1) as found_workers, shown() as progress:
        ratings = load_dataset(
            dataset, seed=seed, reading=reading.options(), progress=notes_wanted()
        ).ratings
        accounts = ratings.user_count
        asked = chosen(wanted, ratings, seed=seed)
        settings = [capped(each, accounts) for each in tried]
        numbers = parse_fakes(fakes, accounts)
        rare = ratings.item_counts() < unpopular
        certified = Certified(ratings, settings, numbers, rare)
        rows = list(_rows(certified, asked, found_workers, progress))
    found = {
        "dataset": dataset,
        "accounts": accounts,
        "items": ratings.item_count,
        "users": len(asked),
        "unpopular": unpopular,
        "preset": preset,
        "neighbors_by": settings[0].neighbors_by,
        "exploration": settings[0].exploration,
        "assumed": [_cost(ratings, each) for each in settings],
        "rows": rows,
        "run": recorded(),
    }
    if json_file is not None:
        write_output(json_file, (json.dumps(found, indent=2) + "\n").encode())
    Console().print(_table(found))
    Console().print(_cost_table(found))
    places.write(found, kept=json_file)


def parse_fakes(text: str, accounts: int) -> list[int]:
    """`10,3%` as numbers of fakes, shares being of the accounts and rounded up.

    >>> parse_fakes("10, 3%, 0.1", 943)
    [10, 29, 95]

    Raises InputError.
    """
    found = []
    for part in _parts(text):
        if part.isdecimal():
            # A number of very many digits is not turned into one.
            if len(part) > len(str(MOST_FAKES)) or int(part) > MOST_FAKES:
                raise InputError(f"--fakes {part:.40}: choose at most {MOST_FAKES}")
            found.append(int(part))
            continue
        wanted = "give numbers of fakes, or shares of the accounts, as in 10,3%"
        share = options.parse_share("--fakes", part, wanted=wanted)
        assert share is not None
        found.append(math.ceil(round(share * accounts, 6)))
    if not found:
        raise InputError(f"--fakes {text!r:.40}: give numbers or shares, as in 10,3%")
    return sorted(set(found))


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _rows(
    certified: "Certified", users: "NDArray[np.int64]", workers: "Workers", progress: "Report"
) -> Iterator[dict[str, Any]]:
    accounts = certified.ratings.user_count
    for number, form, found in certified.over(users, workers, progress):
        settings = certified.settings[number]
        for row in found.shares:
            yield {
                "assumed_fakes": settings.assumed_fakes,
                "form": form,
                "required_raters": settings.required_raters(accounts + row.fakes),
                **asdict(row),
            }


def _cost(ratings: "RatingMatrix", settings: "VicinalSettings") -> dict[str, float]:
    """What is left to recommend where so many fakes are assumed."""
    counts = ratings.item_counts()
    required = settings.required_raters(ratings.user_count)
    admitted = counts >= required
    return {
        "assumed_fakes": settings.assumed_fakes,
        "required_raters": required,
        "items": int(admitted.sum()),
        "ratings": float(counts[admitted].sum() / max(1, counts.sum())),
    }


def _cost_table(found: dict[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text("What it costs to assume them"),
        caption=Text(
            "Items that M accounts rated, and their share of all ratings. A larger share of fakes "
            "that costs few ratings is worth assuming."
        ),
        caption_justify="left",
    )
    for name in ("assumed", "M", "items", "ratings"):
        table.add_column(name, justify="right")
    for row in found["assumed"]:
        numbers = str(row["required_raters"]), f"{row['items']:,}", f"{row['ratings']:.3f}"
        table.add_row(f"{100 * row['assumed_fakes']:g} %", *numbers)
    return table


def _table(found: dict[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    asked = (
        f"{found['users']:,} of {found['accounts']:,} users"
        if (found["users"] < found["accounts"])
        else f"{found['accounts']:,} users"
    )
    forms = ""
    if any(row["form"] == "pairwise" for row in found["rows"]):
        forms = "Form any: whoever the neighbors are; pairwise: fakes only come in between. "
    table = Table(
        title=Text(f"What fakes cannot promote: {found['dataset']:.40}, {asked}"),
        caption=Text(
            "Shares that so many fakes cannot promote: pairs of user and unrated item; those of "
            f"unpopular items (fewer than {found['unpopular']} ratings); items, to anybody; "
            "users, to whom no unpopular item. M: raters that an item needs. "
            f"{forms}Not counted: exploration "
            f"(drawn for {100 * found['exploration']:g}\u00a0% of users, whatever fakes do) and "
            "the random tail of a list."
        ),
        caption_justify="left",
    )
    for name in ("assumed", "form", "fakes", "M", "pairs", "unpopular", "items", "users"):
        table.add_column(name, justify="left" if name == "form" else "right")
    for row in found["rows"]:
        shares = (f"{row[name]:.3f}" for name in ("pairs", "unpopular", "items", "users"))
        assumed = f"{100 * row['assumed_fakes']:g} %"
        numbers = str(row["fakes"]), str(row["required_raters"])
        table.add_row(assumed, row["form"], *numbers, *shares)
    return table
