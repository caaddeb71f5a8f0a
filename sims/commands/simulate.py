"""`vicinal simulate`: a fleet of clients in Flower's simulation."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.options import StudyOptions
from sims.commands.reading import ReadingFlags
from sims.commands.rounds import RoundsFlags, simulate_rounds
from sims.commands.training import TrainingFlags

if TYPE_CHECKING:  # heavy, and of no use until the command runs
    from sims.evaluation.experiment import Prepared
    from sims.tracking.places import Places

app = typer.Typer(add_completion=False)


@app.command()
@expanded()
def simulate(
    study: StudyOptions,
    reading: ReadingFlags,
    training: TrainingFlags,
    rounds: RoundsFlags,
    clients: Annotated[
        int, typer.Option("--clients", min=1, help="Virtual clients who share out the users.")
    ] = 100,
    release: options.ReleaseOption = "rows",
    store: options.StoreOption = Path("runs/store"),
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            help="Clients at work at a time; default: as many as this machine's cores allow.",
        ),
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option("--cpus", min=1, help="Cores that Ray sets aside per client; default: 1."),
    ] = None,
    num_gpus: Annotated[
        float,
        typer.Option("--num-gpus", min=0, help="What share of a GPU Ray gives each client."),
    ] = 0.0,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            help="HOST:PORT of a Ray cluster to work on, whose machines see the same files; "
            "default: this machine alone.",
        ),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(
            "--folder",
            help="Folder of the fleet's files, its result and its logs; one run's at a time.",
        ),
    ] = Path("runs/simulate"),
    min_replies: Annotated[
        int,
        typer.Option(
            "--min-replies",
            min=0,
            help="Clients whose users must all be answered, or it ends with 1; 0: all of them.",
        ),
    ] = 0,
    report_privacy: options.ReportPrivacyOption = "none",
    no_failures: Annotated[
        bool,
        typer.Option("--no-failures", help="End at the first client that fails for good."),
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Begin anew, also where a run of the same in the folder was broken off.",
        ),
    ] = False,
    prepare_only: Annotated[
        bool,
        typer.Option(
            "--prepare-only",
            help="Write the fleet's files, print the `flwr run` that uses them, and end.",
        ),
    ] = False,
    json_file: options.JsonOption = None,
    track: options.TrackOption = None,
) -> None:
    """Run a fleet of clients in Flower's simulation.

    Every user is answered by a Flower client from a neighborhood and its own ratings; the
    clients report counts. With --release book no neighborhoods are sent: the book is installed with
    the model (docs/private-offload.md). Without rvd in --defense they rank with the model as it was
    trained. Starts its own Flower and stops it again. With --rounds the server trains again in each
    round while clients and ratings come and go, and history.json, history.parquet and history.svg
    in --folder say what that did to hit ratio and accuracy. With --train federated the clients
    train the model, too, before they are asked, or in each round.
    """
    from common.errors import InputError
    from common.files import make_folder
    from common.report_privacy import ReportPrivacy
    from server.model_store import ModelStore
    from sims.attacks.kept import KeptAttacks
    from sims.commands.capping import told_settings
    from sims.evaluation.experiment import prepare
    from sims.fleet.files import require_clients
    from sims.fleet.learning import trainer
    from sims.fleet.resources import Resources
    from sims.fleet.run import command_line, fleet_book, run_fleet, write_files
    from sims.processes.lock import locked
    from sims.progress import shown
    from sims.tracking.places import tracked

    privacy = ReportPrivacy.parse(report_privacy).of_clients(clients)
    fleet, scenario = training.fleet(study.attack), rounds.scenario()
    cell = study.study(reading.options(), release=release, fleet=fleet).cell()
    if ray_address is not None and processes is not None:
        raise InputError("--processes is for this machine: a cluster of --ray-address has its own")
    resources = Resources.of(processes, clients, cpus=cpus, gpus=num_gpus, cluster=ray_address)
    if track and prepare_only:
        raise InputError("--track is of results, and --prepare-only has none")
    if not prepare_only:
        resources.require()
    places = tracked(track)
    if scenario is not None:
        privacy.of_rounds(clients)
        simulate_rounds(
            rounds,
            scenario,
            cell,
            folder=folder,
            store=store,
            clients=clients,
            resources=resources,
            processes=processes,
            privacy=privacy,
            min_replies=min_replies,
            accept_failures=not no_failures,
            fresh=fresh,
            prepare_only=prepare_only,
            json_file=json_file,
            places=places,
        )
        return
    with shown() as progress:
        prepared = prepare(cell.experiment, kept=KeptAttacks(store), progress=progress)
    settings = told_settings(cell, prepared.user_count)
    preset, defense = cell.preset, cell.defense
    require_clients(clients, prepared.user_count, min_replies=min_replies)
    make_folder(folder)
    with locked(folder, " or choose another --folder"), shown() as progress:
        with ModelStore(store) as opened:
            if fleet is not None:
                fleet.version(
                    prepared.poisoned,
                    opened,
                    real=prepared.user_count,
                    targets=prepared.watched,
                    seed=prepared.experiment.seed,
                    trainer=trainer(folder / "learning", resources=resources, clients=clients),
                    progress=progress,
                )
            recommender = prepared.train(opened, robust=defense.robust, progress=progress)
        book = fleet_book(cell, recommender)
        if prepare_only:
            options = {"report-privacy": str(privacy)}
            files = write_files(
                folder, prepared, recommender, clients, preset, settings, options, book
            )
            typer.echo(command_line(files, clients, resources))
            return
        result = run_fleet(
            folder,
            prepared,
            recommender,
            clients=clients,
            preset=preset,
            settings=settings,
            resources=resources,
            min_replies=min_replies,
            accept_failures=not no_failures,
            resume=not fresh,
            privacy=privacy,
            report=progress,
            book=book,
        )
    _tell(prepared, result, defense.name, json_file, places)


def _tell(
    prepared: "Prepared",
    result: dict[str, Any],
    defense: str,
    json_file: Path | None,
    places: "Places",
) -> None:
    from rich.console import Console

    from common.files import write_output
    from sims.fleet.report import fleet_json, fleet_summary, fleet_table
    from sims.recorded import recorded

    Console().print(fleet_table(prepared, result, defense))
    for line in fleet_summary(prepared, result):
        typer.echo(line)
    told = {**fleet_json(prepared, result, defense), "run": recorded()}
    if json_file is not None:
        write_output(json_file, (json.dumps(told, indent=2) + "\n").encode())
    places.write(told, kept=json_file)
