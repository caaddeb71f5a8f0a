"""`vicinal serve`: a server that ships offload packages, over gRPC on loopback."""

from pathlib import Path
from typing import Annotated

import typer

from sims import options

app = typer.Typer()

DEFAULT_PORT = 50551


@app.command()
def serve(
    dataset: options.DatasetOption = "ml-100k",
    model: options.ModelOption = "mf",
    attack: options.AttackOption = "mixrand",
    attack_option: options.AttackOptionsOption = None,
    defense: options.DefenseOption = "rvd",
    targets: options.TargetsOption = None,
    attack_size: options.AttackSizeOption = 0.03,
    list_length: options.ListLengthOption = 50,
    seed: options.SeedOption = 0,
    preset: options.PresetOption = "vicinal",
    k: options.NeighborsOption = None,
    steps: options.StepsOption = None,
    unrated_weight: options.UnratedWeightOption = None,
    min_support: options.MinSupportOption = None,
    neighbor_search: Annotated[
        str,
        typer.Option(
            "--neighbor-search",
            help="auto: exact for few users, approximate for many; exact; borrowed: the "
            "neighbors of the nearest other user.",
            metavar="NAME",
        ),
    ] = "auto",
    store: options.StoreOption = Path("runs/store"),
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="On 127.0.0.1; 0 picks a free one.")
    ] = DEFAULT_PORT,
    port_file: Annotated[
        Path | None,
        typer.Option("--port-file", help="Write the port here once it listens.", metavar="FILE"),
    ] = None,
    device_ratings: Annotated[
        Path | None,
        typer.Option(
            "--device-ratings",
            help="Write what the users' devices know: `vicinal device --ratings` reads it.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Train a model, or take it from the store, and serve it to devices.

    Both presets can be asked for; --k, --steps, --unrated-weight and --min-support change the
    one that --preset names. Without rvd in --defense devices rank with the model as it was
    trained. SIGTERM and Ctrl-C let calls under way finish, then end it.
    """
    import os
    import signal
    from threading import Event

    # gRPC's own lines about a port in use would stand before ours; read when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from client.local_ratings import write_local_ratings
    from common.files import write_file
    from common.settings import PRESETS
    from common.settings import preset as preset_named
    from server.endpoint import Endpoint
    from server.model_store import ModelStore
    from server.offload import search_named
    from server.service import OffloadService
    from sims.attacks.options import parse_options
    from sims.defenses import defense_named
    from sims.experiment import Experiment, prepare
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
    search = search_named(neighbor_search)
    stopped = Event()
    with shown() as progress:
        prepared = prepare(experiment, progress=progress)
    with ModelStore(store) as opened, shown() as progress:
        recommender = prepared.train(opened, robust=chain.robust, search=search, progress=progress)
        service = OffloadService(
            recommender,
            presets={
                name: chain.settings(each)
                for name, each in {**PRESETS[model], preset: settings}.items()
            },
            watched=prepared.watched,
            list_length=list_length,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stopped.set())
        with Endpoint(service, port=port) as endpoint:
            if device_ratings is not None:
                write_local_ratings(device_ratings, prepared.local)
            if port_file is not None:
                # Last, because it tells a waiting process that all is there.
                write_file(port_file, f"{endpoint.port}\n".encode())
            version = recommender.version.digest[:12]
            typer.echo(f"listening on {endpoint.address}  version {version}…")
            typer.echo(f"neighbors: {recommender.neighbor_search}")
            stopped.wait()
