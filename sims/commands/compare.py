"""`vicinal compare`: two results of the same users, user by user."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    first: Annotated[
        Path, typer.Argument(help="What `vicinal evaluate --per-user` wrote.", metavar="FIRST")
    ],
    second: Annotated[
        Path, typer.Argument(help="Another one, of the same users.", metavar="SECOND")
    ],
    condition: Annotated[
        str,
        typer.Option(
            "--condition",
            help="clean clean_defended undefended defended, or a baseline's name; two, as "
            "ease,defended, are the first's and the second's.",
            metavar="NAME",
        ),
    ] = "defended",
    seed: options.ResamplesSeedOption = 0,
    json_file: options.JsonOption = None,
) -> None:
    """Compare two results user by user, to see whether they differ by more than chance.

    Prints every metric of both, the difference with its 95 % interval from resampled users, and
    p from a permutation test. Results of other ratings, users, targets or lists are refused.
    """
    from rich.console import Console

    from common.errors import InputError
    from common.files import write_output
    from sims.evaluation.pairing import paired
    from sims.evaluation.per_user import read_per_user, results_of

    names = [name.strip() for name in condition.split(",")]
    if len(names) > 2:
        raise InputError(f"--condition {condition!r:.60}: give one name, or one for each file")
    results = [
        results_of(read_per_user(path), name, name=str(path))
        for path, name in zip((first, second), names * (3 - len(names)), strict=True)
    ]
    found = paired(*results, seed=seed)
    if json_file is not None:
        write_output(json_file, (json.dumps(found.to_json(), indent=2) + "\n").encode())
    Console().print(found.table())
