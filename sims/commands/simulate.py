"""`vicinal simulate`: a fleet of clients in Flower's simulation."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options

app = typer.Typer(add_completion=False)


@app.command()
def simulate(
    clients: Annotated[
        int, typer.Option("--clients", min=1, help="Virtual clients who share out the users.")
    ] = 100,
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
    store: options.StoreOption = Path("runs/store"),
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Clients at work at a time; default: cores."),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Keeps the fleet's files, the result and the logs.")
    ] = Path("runs/simulate"),
    prepare_only: Annotated[
        bool,
        typer.Option("--prepare-only", help="Write the fleet's files; print the `flwr run`."),
    ] = False,
    json_file: options.JsonOption = None,
) -> None:
    """Run a fleet of clients in Flower's simulation.

    Every user is answered by a Flower client from a neighborhood and its own ratings; the
    clients report counts. Without rvd in --defense they rank with the model as it was trained.
    Starts its own Flower and stops it again.
    """
    from rich.console import Console

    from common.files import write_file
    from common.vicinal.settings import preset as preset_named
    from server.model_store import ModelStore
    from sims.attacks.options import parse_options
    from sims.evaluation.defenses import defense_named
    from sims.evaluation.experiment import Experiment, prepare
    from sims.fleet.report import fleet_json, fleet_table
    from sims.fleet.run import command_line, run_fleet, write_files
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
    settings = chain.settings(settings)
    prepared = prepare(
        Experiment(
            dataset,
            model,
            attack,
            seed,
            options.parse_targets(targets),
            attack_size,
            list_length,
            parse_options(attack_option or []),
        )
    )
    with shown() as progress:
        with ModelStore(store) as opened:
            recommender = prepared.train(opened, robust=chain.robust, progress=progress)
        if prepare_only:
            files = write_files(folder, prepared, recommender, clients, preset, settings)
            typer.echo(command_line(files, clients))
            return
        result = run_fleet(
            folder,
            prepared,
            recommender,
            clients=clients,
            preset=preset,
            settings=settings,
            processes=processes,
            report=progress,
        )
    Console().print(fleet_table(prepared, result, chain.name))
    if json_file is not None:
        write_file(
            json_file,
            (json.dumps(fleet_json(prepared, result, chain.name), indent=2) + "\n").encode(),
        )
