"""Command-line options that several commands share, and what they are turned into.

Each name is an annotated type: `dataset: DatasetOption = "ml-100k"` in a command.
"""

from pathlib import Path
from typing import Annotated

import typer

from common.errors import InputError

DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset", help="ml-100k ml-1m filmtrust yelp synthetic[:UxI] or a file.", metavar="NAME"
    ),
]
ModelOption = Annotated[str, typer.Option("--model", help="mf nsvd autorec cdae.", metavar="NAME")]
AttackOption = Annotated[
    str,
    typer.Option(
        "--attack",
        help="random average uniform aush pga tna mixrand mixinf vicinity, none, or "
        "file:PATH of a profiles file.",
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
        help="none rvd apr ltsmf rmf unrated, or a robust training with rvd: rmf+rvd.",
        metavar="NAME",
    ),
]
TargetsOption = Annotated[
    str | None,
    typer.Option(
        "--targets",
        help="Target items, zero-based: 1485,1320,… Default: five unpopular ones by seed.",
        metavar="ITEMS",
    ),
]
AttackSizeOption = Annotated[
    float, typer.Option("--attack-size", help="Fakes as a share of real users, at most 0.5.")
]
SeedOption = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**63 - 1, help="Of split, targets, attack and training."),
]
ListLengthOption = Annotated[int, typer.Option("--list-length", help="K, items recommended.")]
PresetOption = Annotated[
    str, typer.Option("--preset", help="Vicinal settings: paper or vicinal.", metavar="NAME")
]
NeighborsOption = Annotated[
    int | None, typer.Option("--k", help="Neighbors; default: the preset's.")
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", help="Fine-tuning steps; default: the preset's.")
]
UnratedWeightOption = Annotated[
    float | None,
    typer.Option("--unrated-weight", help="α, 0–1; default: the preset's."),
]
MinSupportOption = Annotated[
    int | None,
    typer.Option("--min-support", help="Neighbors who must have rated an item; default: preset."),
]
StoreOption = Annotated[
    Path, typer.Option("--store", help="Folder of trained model versions, kept between runs.")
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", dir_okay=False, help="Write the results to this file.", metavar="FILE"),
]


def parse_targets(text: str | None) -> tuple[int, ...] | None:
    """`1485,1320` as indices. Raises InputError."""
    if text is None:
        return None
    try:
        targets = tuple(int(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise InputError(f"--targets {text!r}: give item indices, as in 1485,1320") from None
    if not targets or len(set(targets)) != len(targets):
        raise InputError(f"--targets {text!r}: name at least one item, each once")
    return targets
