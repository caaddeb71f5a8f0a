"""Command-line options that several commands share, and what they are turned into.

Each name is an annotated type: `dataset: DatasetOption = "ml-100k"` in a command. Commands that
take a data set, a model, an attack and a defense have one parameter for them, `StudyOptions`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from common.errors import InputError
from common.ids import parse_named

if TYPE_CHECKING:  # heavy, and of no use until a command runs
    from server.data.reading_options import ReadingOptions
    from sims.evaluation.study import Study
    from sims.federated.model import FleetTraining

MAX_SEED: Final = 2**63 - 1


def _seed(value: int) -> int:
    """A check of its own: as a range of typer's it would fill the help with digits."""
    if value > MAX_SEED:
        raise typer.BadParameter(f"{value} is not in the range 0–{MAX_SEED}.")
    return value


def writable(path: Path | None) -> Path | None:
    """What a file can be written to, told before hours of work and not after them."""
    if path is None:
        return None
    if path == Path("-"):
        raise typer.BadParameter("the table goes to stdout: name a file.")
    whole = path.resolve()
    if whole.exists() and not whole.is_file():
        raise typer.BadParameter(f"{path} is not a regular file.")
    above = next(each for each in whole.parents if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written.")
    return path


DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="ml-100k ml-1m filmtrust yelp synthetic[:UxI[xN]] or a file of ratings "
        "(docs/how-to/own-data.md).",
        metavar="NAME",
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help="The recommender: mf nsvd autorec cdae ease; ials bpr lightgcn, served as mf; "
        "imported:NAME (`vicinal model import`). `vicinal evaluate` takes userknn itemknn "
        "popularity, too, and one of your own: PATH.py:FUNCTION.",
        metavar="NAME",
    ),
]
AttackOption = Annotated[
    str,
    typer.Option(
        "--attack",
        help="random average uniform aush pga tna mixrand mixinf vicinity hubclones covering "
        "avgpop targets-only group flood split unattack gcoattack nuke, none, file:PATH of "
        "profiles, or an attack of your own: PATH.py:FUNCTION.",
        metavar="NAME",
    ),
]
AttackOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--attack-option",
        help="An option of the attack, as hubs=4 (docs/how-to/attacks.md); repeat for several.",
        metavar="NAME=VALUE",
    ),
]
DefenseOption = Annotated[
    str,
    typer.Option(
        "--defense",
        help="none rvd apr ltsmf rmf unrated vat pca, or parts of them: rmf+rvd, pca+unrated+rvd.",
        metavar="NAME",
    ),
]
TargetsOption = Annotated[
    str | None,
    typer.Option(
        "--targets",
        help="Target items, by index from 0, as 1485,1320, by id, as id:B104729,id:B2, or @FILE "
        "with an id a line; default: five unpopular ones, by the seed "
        "(others: --attack-option targets=middle).",
        metavar="ITEMS",
    ),
]
AttackSizeOption = Annotated[
    float,
    typer.Option("--attack-size", help="Fake users as a share of the real ones, at most 0.5."),
]
StudyAttackSizeOption = Annotated[
    float | None,
    typer.Option(
        "--attack-size",
        help="Fake users as a share of the real ones, at most 0.5; default: 0.03. Not with file:.",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        callback=_seed,
        help="Seed of the split, the targets, the attack and the training.",
    ),
]
SampleSeedOption = Annotated[
    int,
    typer.Option(
        "--seed", min=0, callback=_seed, help="Seed of the sample of users, and of synthetic data."
    ),
]
UsersOption = Annotated[
    str | None,
    typer.Option(
        "--users",
        help="Whom to ask: a number N for a random sample of N; or users by index, as 7-7 or "
        "0-99,120, by id, as id:ALICE,id:BOB, or @FILE with an id a line; default: everybody.",
        metavar="USERS",
    ),
]
# Of what listens: a server, and the gateway before it.
PeerBytesOption = Annotated[
    float,
    typer.Option("--peer-bytes", min=1024, help="Bytes a second that are taken from one address."),
]
CallSecondsOption = Annotated[
    float,
    typer.Option("--call-seconds", min=0.1, help="Seconds after which a call is ended."),
]
PEER_BYTES: Final = 131_072.0
CALL_SECONDS: Final = 60.0
ReportPrivacyOption = Annotated[
    str,
    typer.Option(
        "--report-privacy",
        metavar="HOW",
        help="What reports keep to themselves: none, secagg (sums under masks), "
        "central:EPSILON (noise on the sums) or local:EPSILON (noise on each device).",
    ),
]
ListLengthOption = Annotated[
    int, typer.Option("--list-length", help="K: how many items a recommendation has.")
]
PresetOption = Annotated[
    str,
    typer.Option(
        "--preset", help="Settings of the vicinal defense: paper or vicinal.", metavar="NAME"
    ),
]
NeighborsOption = Annotated[
    int | None,
    typer.Option("--k", help="k: users in a neighborhood, itself included; default: the preset's."),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", help="T: fine-tuning steps; default: the preset's.")
]
UnratedWeightOption = Annotated[
    float | None,
    typer.Option(
        "--unrated-weight", help="α: weight of unrated items, 0–1; default: the preset's."
    ),
]
MinSupportOption = Annotated[
    int | None,
    typer.Option(
        "--min-support", help="m: neighbors who must have rated an item; default: the preset's."
    ),
]
BaselinesOption = Annotated[
    str | None,
    typer.Option(
        "--baselines",
        help="Recommenders measured beside it: popularity userknn itemknn ease, with commas "
        "between, all, or none (popularity alone); default: popularity,userknn,ease.",
        metavar="NAMES",
    ),
]
_RESAMPLES: Final = "Seed of the resamples and of the permutations."
ResamplesSeedOption = Annotated[int, typer.Option("--seed", min=0, callback=_seed, help=_RESAMPLES)]
NeighborsByOption = Annotated[
    str | None,
    typer.Option(
        "--neighbors-by",
        help="Where users are near each other: ratings, embedding, or random; default: the "
        "preset's.",
        metavar="NAME",
    ),
]
AssumeFakesOption = Annotated[
    str | None,
    typer.Option(
        "--assume-fakes",
        help="Share of all accounts that may be fakes, as 3% or 0.03: no item is recommended that "
        "so many could hold up alone; 0: any item; default: the preset's.",
        metavar="SHARE",
    ),
]
RowCapOption = Annotated[
    int | None,
    typer.Option(
        "--row-cap", min=1, help="Ratings of a neighbor that devices get, at most; default: all."
    ),
]
_FOLD_IN: Final = "Devices make users' vectors of the rows, and are sent none."
FoldInOption = Annotated[bool, typer.Option("--fold-in", help=_FOLD_IN)]
ReleaseOption = Annotated[
    str,
    typer.Option(
        "--release",
        help="What devices are given: rows of neighbors for every request, or the book of a "
        "version, which is the same for everybody (docs/private-offload.md).",
        metavar="NAME",
    ),
]
StoreOption = Annotated[
    Path, typer.Option("--store", help="Folder of trained model versions, kept between runs.")
]
ProcessesOption = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Worker processes; default: one a core."),
]
FewProcessesOption = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Worker processes; default: this one alone."),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Let the cores of this Ray cluster do the work, as 10.0.0.1:6379 "
        "(docs/how-to/ray.md).",
        metavar="ADDRESS",
    ),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="What servers share, as postgresql://USER@HOST:PORT/DB; a password belongs into "
        "PGPASSWORD or ~/.pgpass.",
        metavar="ADDRESS",
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        dir_okay=False,
        callback=writable,
        help="Write the results to this file.",
        metavar="FILE",
    ),
]

TrackOption = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        help="Write settings, metrics and files to mlflow[:ADDRESS] or tensorboard[:FOLDER], too "
        "(docs/how-to/track.md); repeat it for both.",
        metavar="PLACE",
    ),
]


@dataclass(frozen=True)
class StudyOptions:
    """The options of a study (sims.evaluation.study.Study, which says what they mean)."""

    dataset: DatasetOption = "ml-100k"
    model: ModelOption = "mf"
    attack: AttackOption = "mixrand"
    attack_option: AttackOptionsOption = None
    attack_size: StudyAttackSizeOption = None
    targets: TargetsOption = None
    defense: DefenseOption = "rvd"
    preset: PresetOption = "vicinal"
    k: NeighborsOption = None
    steps: StepsOption = None
    unrated_weight: UnratedWeightOption = None
    min_support: MinSupportOption = None
    neighbors_by: NeighborsByOption = None
    assume_fakes: AssumeFakesOption = None
    row_cap: RowCapOption = None
    fold_in: FoldInOption = False
    list_length: ListLengthOption = 50
    seed: SeedOption = 0

    def study(
        self,
        reading: "ReadingOptions",
        *,
        users: str | None = None,
        baselines: str | None = None,
        release: str = "rows",
        fleet: "FleetTraining | None" = None,
    ) -> "Study":
        """Raises InputError for targets, attack options or baselines that cannot be read."""
        from sims.attacks.options import parse_options
        from sims.evaluation.asked import asked_users
        from sims.evaluation.baselines import baselines_named
        from sims.evaluation.study import Study

        return Study(
            dataset=self.dataset,
            model=self.model,
            attack=self.attack,
            attack_options=parse_options(self.attack_option or []),
            attack_size=self.attack_size,
            targets=parse_targets(self.targets),
            defense=self.defense,
            preset=self.preset,
            k=self.k,
            steps=self.steps,
            unrated_weight=self.unrated_weight,
            min_support=self.min_support,
            neighbors_by=self.neighbors_by,
            assume_fakes=parse_share("--assume-fakes", self.assume_fakes),
            row_cap=self.row_cap,
            fold_in=self.fold_in,
            list_length=self.list_length,
            seed=self.seed,
            users=asked_users(users),
            baselines=baselines_named(baselines),
            release=release,
            reading=reading,
            fleet=fleet,
        )


def parse_share(
    option: str, text: str | None, *, wanted: str = "give a share, as in 3% or 0.03"
) -> float | None:
    """`3%` or `0.03`. Raises InputError."""
    if text is None:
        return None
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        raise InputError(f"{option} {text!r}: {wanted}") from None
    if not 0 <= share <= 1:
        raise InputError(f"{option} {text!r}: a share lies in 0–1, or 0%–100%")
    return share


def parse_targets(text: str | None) -> tuple[int | str, ...] | None:
    """`1485,1320` as indices, `id:B104729,id:B2` as ids. Raises InputError."""
    if text is None:
        return None
    # Between indices blanks will do.
    words = text.split()
    plain = ",".join(words) if all(word.strip(",").isdecimal() for word in words) else text
    return parse_named("--targets", plain.replace(",,", ","), what="items")
