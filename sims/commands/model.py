"""`vicinal model`: models that other libraries trained, brought into the store."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from common.errors import InputError
from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.reading import ReadingFlags

if TYPE_CHECKING:
    from common.ratings import RatingMatrix
    from server.importing.fit import Fit
    from server.importing.matching import Match
    from server.preparing import Source

app = typer.Typer(
    help="Bring in a model that another library trained.",
    no_args_is_help=True,
    add_completion=False,
)

# What each key of `vicinal model import --json` means.
KEYS: Final = {
    "model": "`imported:NAME`, as --model takes it",
    "version": "SHA-256 of the model version of these ratings",
    "ratings_digest": "SHA-256 of the ratings that it belongs to",
    "width": "numbers in an embedding; columns for biases count",
    "KIND.ratings": "users or items of the ratings; KIND is `users` or `items`",
    "KIND.matched": "those of them that came with factors",
    "KIND.missing": "those without: users are folded in from their ratings, items get zeros",
    "KIND.left_out": "rows of factors whose id is not among the ratings",
    "fit.ranked": "how often an item that a user rated is predicted higher than one that it did "
    "not; chance is 0.5",
    "fit.correlated": "predictions with ratings, −1 to 1",
    "fit.ranked_by_others": "the same with another user's embedding: where the rows are in another "
    "order, it makes no difference",
    "fit.correlated_by_others": "",
    "notes": "what was filled in or left out, and what looks wrong, in words",
}

FILE_FORMS: Final = "npy, npz, safetensors or parquet; FILE:NAME for one array of several"
ID_FORMS: Final = (
    "one id a line, a json list, npy, or FILE.parquet:COLUMN; default: the ids in the factors' "
    "parquet, else the order of the ratings"
)


@dataclass(frozen=True)
class RatingsOptions:
    """Which ratings: a data set as it is, or as a study trains on it."""

    attack: options.AttackOption = "none"
    attack_option: options.AttackOptionsOption = None
    attack_size: options.StudyAttackSizeOption = None
    targets: options.TargetsOption = None
    hold_out: Annotated[
        bool,
        typer.Option(
            "--hold-out", help="Without the rating of every user that `vicinal evaluate` holds out."
        ),
    ] = False
    seed: options.SeedOption = 0

    @property
    def as_they_are(self) -> bool:
        """Whether nothing is added and nothing held out."""
        return self.attack == "none" and not self.hold_out

    def source(self, dataset: str, reading: ReadingFlags) -> "Source":
        """The ratings, real users first. Raises InputError."""
        from sims.evaluation.study import Study
        from sims.progress import shown
        from sims.serving.ratings import load_ratings

        study = Study(
            dataset=dataset,
            attack=self.attack,
            attack_options=_attack_options(self.attack_option),
            attack_size=self.attack_size,
            targets=options.parse_targets(self.targets),
            defense="none",
            seed=self.seed,
            reading=reading.options(),
        )
        with shown() as progress:
            source, _ = load_ratings(
                study.cell().experiment, hold_out=self.hold_out, progress=progress
            )
        return source


def _attack_options(given: list[str] | None) -> Any:
    from sims.attacks.options import parse_options

    return parse_options(given or [])


@app.command("import")
@expanded(without=("items", "item_columns"))
def import_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called from now on.")],
    users: Annotated[
        str, typer.Option("--users", metavar="FILE", help=f"Users' factors: {FILE_FORMS}.")
    ],
    items: Annotated[
        str, typer.Option("--items", metavar="FILE", help="Items' factors, in the same forms.")
    ],
    dataset: Annotated[
        str,
        typer.Option(
            "--ratings",
            metavar="NAME",
            help="What it was trained on: a file of ratings, or a data set's name.",
        ),
    ],
    ratings: RatingsOptions,
    reading: ReadingFlags,
    user_ids: Annotated[
        str | None,
        typer.Option("--user-ids", metavar="FILE", help=f"Ids of the users' rows: {ID_FORMS}."),
    ] = None,
    item_ids: Annotated[
        str | None,
        typer.Option("--item-ids", metavar="FILE", help="Ids of the items' rows, likewise."),
    ] = None,
    user_biases: Annotated[
        str | None,
        typer.Option("--user-biases", metavar="FILE", help="A number for each row of --users."),
    ] = None,
    item_biases: Annotated[
        str | None,
        typer.Option("--item-biases", metavar="FILE", help="A number for each row of --items."),
    ] = None,
    global_bias: Annotated[
        float, typer.Option("--global-bias", help="The mean that the model adds everywhere.")
    ] = 0.0,
    store: options.StoreOption = Path("runs/store"),
    json_file: options.JsonOption = None,
) -> None:
    """Bring factors that another library trained into the store, as a version of model mf.

    implicit, LensKit, RecBole, Spark and others give one row of numbers for each user and item;
    docs/how-to/import.md shows how to write them. They are matched to the ratings by ids, and
    scaled by one number, which leaves every ranking as it is. Then `vicinal serve`, `evaluate` and
    `simulate` take it as --model imported:NAME.

    A model that was trained on what an attack adds, or without what `vicinal evaluate` holds out,
    is brought in with the same --attack and --hold-out; `vicinal model ratings` writes those
    ratings. One name may have one of each.
    """
    from common.files import write_output
    from common.models import IMPORTED
    from server.importing.factors import checked_bias, read_factors, with_biases
    from server.importing.fit import fit_of
    from server.importing.imported import ImportedModel, bring_in, keep, require_name
    from server.importing.places import place
    from server.model_store import ModelStore
    from sims.terminal import notes_wanted

    require_name(name)
    mean = checked_bias(global_bias)
    (own, own_biases), (shared, shared_biases) = (
        read_factors(
            kind,
            place(table),
            ids=None if ids is None else place(ids),
            biases=None if biases is None else place(biases),
        )
        for kind, table, ids, biases in (
            ("user", users, user_ids, user_biases),
            ("item", items, item_ids, item_biases),
        )
    )
    own, shared = with_biases(
        own, shared, user_biases=own_biases, item_biases=shared_biases, global_bias=mean
    )
    source = ratings.source(dataset, reading)
    imported, *matches = bring_in(name, own, shared, source.ratings, real=source.users)
    model = ImportedModel(name)
    with ModelStore(store) as opened:
        keep(imported, opened)
        stored = model.version(source.ratings, opened)
    fit = fit_of(imported.users, imported.items, source.ratings)
    notes = [*_mismatches(matches), *_doubts(fit)]
    result = {
        "model": f"{IMPORTED}{name}",
        "version": stored.version.digest,
        "ratings_digest": imported.ratings_digest,
        "width": imported.users.shape[1],
        **{f"{match.kind}s": _counts(match) for match in matches},
        "fit": fit._asdict(),
        "notes": notes,
    }
    if json_file is not None:
        write_output(json_file, (json.dumps(result, indent=2) + "\n").encode())
    for note in notes:
        typer.echo(note, err=True)
    typer.echo(
        f"{IMPORTED}{name}  {imported.users.shape[1]} factors, {source.ratings.summary}, "
        f"version {stored.version.digest[:12]}"
    )
    # A model of an experiment's ratings is there to be measured.
    if notes_wanted() and ratings.as_they_are:
        typer.echo(f"serve it: vicinal serve --open --dataset {dataset} --model {IMPORTED}{name}")


@app.command("ratings")
@expanded()
def ratings_command(
    ratings: RatingsOptions,
    reading: ReadingFlags,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            callback=options.writable,
            help="The file: .csv or .parquet.",
        ),
    ],
    dataset: options.DatasetOption = "ml-100k",
) -> None:
    """Write the ratings that a study trains on, for another library to train on the same.

    Columns user, item and rating. With --hold-out and the --attack that is to be measured, `vicinal
    evaluate` with the same options finds that the imported model was trained on its ratings.
    """
    if output.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"{output}: its name must end in .csv or .parquet")
    from common.files import write_output

    source = ratings.source(dataset, reading)
    write_output(output, _written(source.ratings, output.suffix.lower()))
    typer.echo(f"{output}: {source.ratings.summary}")


@app.command("list")
def list_command(store: options.StoreOption = Path("runs/store")) -> None:
    """Print the imported models of a store, and which ratings each belongs to."""
    from common.models import IMPORTED
    from server.importing.imported import imported_names, imports_of
    from server.model_store import ModelStore

    if not store.is_dir():
        raise InputError(f"{store}: no such store")
    with ModelStore(store) as opened:
        for name in imported_names(opened):
            digests = ", ".join(path.stem[:12] for path in imports_of(opened, name))
            typer.echo(f"{IMPORTED}{name}  ratings {digests}")


def _written(ratings: "RatingMatrix", suffix: str) -> bytes:
    import io

    import polars as pl

    from server.importing.matching import ids_of

    users, items = (pl.Series(ids_of(ratings, kind)) for kind in ("user", "item"))
    table = pl.DataFrame(
        {
            "user": users.gather(ratings.users),
            "item": items.gather(ratings.items),
            "rating": ratings.scale.values[ratings.levels],
        }
    )
    written = io.BytesIO()
    if suffix == ".csv":
        table.write_csv(written)
    else:
        table.write_parquet(written)
    return written.getvalue()


def _counts(match: "Match") -> dict[str, int]:
    found = int(match.known.sum())
    return {
        "ratings": len(match.rows),
        "matched": found,
        "missing": match.missing,
        "left_out": match.left_out,
    }


def _mismatches(matches: "list[Match]") -> list[str]:
    """A line for users and items each where not every row has its counterpart."""
    lines = []
    for match in matches:
        parts = []
        if match.missing:
            filled = "folded in from their ratings" if match.kind == "user" else "given zeros"
            parts.append(f"{match.missing} of {len(match.rows)} have no factors and are {filled}")
        if match.left_out:
            parts.append(f"{match.left_out} rows of factors are of no {match.kind} of the ratings")
        if match.by_order:
            parts.append("rows are taken in the order of their ids, which no file names")
        if parts:
            lines.append(f"{match.kind}s: {'; '.join(parts)}")
    return lines


def _doubts(fit: "Fit") -> list[str]:
    if not fit.doubtful:
        return []
    return [
        f"WARNING: users' ratings are predicted no better from their own factors than from others' "
        f"(rated above unrated items {fit.ranked:.2f} and {fit.ranked_by_others:.2f}): check that "
        "the ids are those of the rows"
    ]
