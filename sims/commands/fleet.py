"""`vicinal fleet`: a fleet deployed on this machine, with TLS and a key for each node."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.options import StudyOptions
from sims.commands.reading import ReadingFlags

app = typer.Typer(add_completion=False)


@app.command()
@expanded()
def fleet(
    study: StudyOptions,
    reading: ReadingFlags,
    nodes: Annotated[
        int,
        typer.Option("--nodes", min=1, max=100, help="SuperNodes who share out the users."),
    ] = 3,
    store: options.StoreOption = Path("runs/store"),
    folder: Annotated[
        Path, typer.Option("--folder", help="Folder of the fleet's files, its result and its logs.")
    ] = Path("runs/fleet"),
    stock: Annotated[
        bool,
        typer.Option(
            "--stock",
            help="Let flower-supernode play the nodes as it is, which takes seconds a message.",
        ),
    ] = False,
    report_privacy: options.ReportPrivacyOption = "none",
    json_file: options.JsonOption = None,
) -> None:
    """Deploy a fleet with Flower on this machine: a SuperLink and SuperNodes on loopback.

    They speak TLS, and the SuperLink knows the key of each node; certificates and keys are made for
    the run. When every user has been answered, the tally is compared with that of one process, and
    the exit code is 1 when they differ; with noise in reports there is none to compare. Everything
    that was started is stopped.
    """
    from rich.console import Console

    from common.files import make_folder, write_output
    from common.report_privacy import ReportPrivacy
    from server.model_store import ModelStore
    from sims.attacks.kept import KeptAttacks
    from sims.commands.capping import told_settings
    from sims.evaluation.experiment import prepare
    from sims.fleet.deployed import counts_here, require_equal, run_deployed
    from sims.fleet.files import require_clients
    from sims.fleet.report import fleet_json, fleet_summary, fleet_table
    from sims.processes.lock import locked
    from sims.progress import shown
    from sims.recorded import recorded

    privacy = ReportPrivacy.parse(report_privacy).of_clients(nodes)
    cell = study.study(reading.options()).cell()
    with shown() as progress:
        prepared = prepare(cell.experiment, kept=KeptAttacks(store), progress=progress)
    settings = told_settings(cell, prepared.user_count)
    require_clients(nodes, prepared.user_count)
    make_folder(folder)
    with locked(folder, " or choose another --folder"), shown() as progress:
        with ModelStore(store) as opened:
            recommender = prepared.train(opened, robust=cell.defense.robust, progress=progress)
        result = run_deployed(
            folder,
            prepared,
            recommender,
            nodes=nodes,
            preset=cell.preset,
            settings=settings,
            report=progress,
            stock=stock,
            privacy=privacy,
        )
    Console().print(fleet_table(prepared, result, cell.defense.name))
    for line in fleet_summary(prepared, result):
        typer.echo(line)
    if json_file is not None:
        told = {**fleet_json(prepared, result, cell.defense.name), "run": recorded()}
        write_output(json_file, (json.dumps(told, indent=2) + "\n").encode())
    if privacy.noisy:
        typer.echo("reports have noise: what one process counts is another number")
        return
    require_equal(result, counts_here(prepared, recommender, settings))
    typer.echo(f"the tally of {nodes} nodes is that of one process, to the last count")
