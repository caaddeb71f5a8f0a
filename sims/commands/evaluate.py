"""`vicinal evaluate`: one attack, one defense, one data set."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options

app = typer.Typer(add_completion=False)


@app.command()
def evaluate(
    dataset: options.DatasetOption = "ml-100k",
    model: options.ModelOption = "mf",
    attack: options.AttackOption = "mixrand",
    attack_option: options.AttackOptionsOption = None,
    defense: options.DefenseOption = "rvd",
    preset: options.PresetOption = "vicinal",
    k: options.NeighborsOption = None,
    steps: options.StepsOption = None,
    unrated_weight: options.UnratedWeightOption = None,
    min_support: options.MinSupportOption = None,
    targets: options.TargetsOption = None,
    attack_size: options.AttackSizeOption = 0.03,
    list_length: options.ListLengthOption = 50,
    seed: options.SeedOption = 0,
    users: Annotated[
        int | None,
        typer.Option("--users", min=1, help="Measure a random sample of this many users."),
    ] = None,
    store: options.StoreOption = Path("runs/store"),
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Worker processes; default: cores.")
    ] = None,
    json_file: options.JsonOption = None,
) -> None:
    """Measure one attack against one defense on one data set.

    Prints hit ratio and accuracy of the clean, the attacked and the defended model, beside
    ranking by popularity. Trained models are kept in the store and used again.
    """
    from functools import partial

    from rich.console import Console

    from common.files import write_file
    from common.vicinal.settings import preset as preset_named
    from server.model_store import ModelStore
    from sims.attacks.options import parse_options
    from sims.evaluation.cell import Cell, check_cell, evaluate_cell
    from sims.evaluation.defenses import defense_named
    from sims.evaluation.experiment import Experiment, prepare
    from sims.evaluation.measuring import measure
    from sims.progress import shown

    chain = defense_named(defense, model=model)
    settings = preset_named(
        preset,
        model=model,
        neighbors=k,
        steps=steps,
        unrated_weight=unrated_weight,
        min_support=min_support,
    )
    experiment = Experiment(
        dataset,
        model,
        attack,
        seed,
        options.parse_targets(targets),
        attack_size,
        list_length,
        parse_options(attack_option or []),
    )
    cell = Cell(experiment, chain, preset, settings, users)
    with shown() as progress:
        prepared = prepare(experiment, progress=progress)
    check_cell(cell, prepared)
    with ModelStore(store) as opened, shown() as progress:
        measurer = partial(measure, processes=processes, progress=progress)
        evaluation = evaluate_cell(cell, prepared, opened, measurer, progress=progress)
    if json_file is not None:
        write_file(json_file, (json.dumps(evaluation.to_json(), indent=2) + "\n").encode())
    Console().print(evaluation.table())
