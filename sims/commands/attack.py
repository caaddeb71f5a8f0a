"""`vicinal attack`: write a profiles file."""

from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.reading import ReadingFlags

app = typer.Typer(add_completion=False)


@app.command()
@expanded()
def attack(
    name: Annotated[
        str,
        typer.Argument(
            help="random average uniform aush pga tna mixrand mixinf vicinity hubclones covering "
            "avgpop targets-only group flood split unattack gcoattack nuke, or one of your "
            "own: PATH.py:FUNCTION.",
            metavar="NAME",
        ),
    ],
    reading: ReadingFlags,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", dir_okay=False, help="The profiles file to write (CSV)."),
    ],
    dataset: options.DatasetOption = "ml-100k",
    targets: options.TargetsOption = None,
    attack_option: options.AttackOptionsOption = None,
    attack_size: options.AttackSizeOption = 0.03,
    seed: options.SeedOption = 0,
) -> None:
    """Write a profiles file: the ratings of fake users who promote the targets, or demote them.

    The attack is made on the training part of the data set's split, as `evaluate` makes it;
    give the file to any command with --attack file:PATH.
    """
    from common.errors import VicinalError
    from sims.attacks import attack_named
    from sims.attacks.options import parse_options
    from sims.attacks.profiles import write_profiles
    from sims.evaluation.experiment import Experiment, prepare
    from sims.progress import shown
    from sims.terminal import notes_wanted

    attack_named(name)
    experiment = Experiment(
        dataset=dataset,
        attack=name,
        seed=seed,
        targets=options.parse_targets(targets),
        attack_size=attack_size,
        attack_options=parse_options(attack_option or []),
        reading=reading.options(),
    )
    with shown() as progress:
        prepared = prepare(experiment, progress=progress)
    profiles = prepared.profiles
    if profiles is None:
        raise VicinalError(f"attack {name} made no profiles")
    write_profiles(output, profiles)
    names = prepared.dataset.item_names
    counts = prepared.split.train.item_counts()
    for doubt in prepared.dataset.doubts:
        typer.echo(f"warning: {doubt.text}", err=True)
    if notes_wanted():
        for note in (*prepared.dataset.notes, *prepared.notes):
            typer.echo(note, err=True)
    typer.echo(
        f"{output}: {profiles.ratings.user_count} profiles, {len(profiles.ratings)} ratings; "
        "targets (ratings so far): "
        + ", ".join(f"{names.shown(target)} ({counts[target]})" for target in profiles.targets)
        + (f"; audience of {len(profiles.audience)} users" if profiles.audience else "")
        + ("; they are to fall" if profiles.goal == "demote" else "")
    )
