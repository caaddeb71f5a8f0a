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
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=1024, help="Worker processes. Default: one a core."),
    ] = None,
    queue: Annotated[
        int, typer.Option("--queue", min=0, help="Requests that wait at most; more are refused.")
    ] = 64,
    queue_ms: Annotated[
        float,
        typer.Option(
            "--queue-ms",
            min=0,
            help="Expected wait in milliseconds above which requests are refused.",
        ),
    ] = 50.0,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=0,
            max=65535,
            help="Serve Prometheus metrics on 127.0.0.1; 0 picks a free port.",
        ),
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
    trained. One process listens, --workers others compute; when too many requests wait, more
    are refused with a hint when to try again. SIGTERM and Ctrl-C let calls under way finish,
    then end it.
    """
    import asyncio
    import os

    # gRPC's own lines about a port in use would stand before ours; read when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from client.local_ratings import write_local_ratings
    from common.files import write_file
    from common.settings import PRESETS
    from common.settings import preset as preset_named
    from server.crew import QueueLimits
    from server.front import FrontOptions, core_count, serve_front
    from server.model_store import ModelStore
    from server.offload import search_named
    from server.service import eligible_users
    from server.serving import describe, written_serving
    from server.tally import Tally
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
    front = FrontOptions(
        port, workers or core_count(), QueueLimits(queue, queue_ms / 1000), metrics_port
    )
    with shown() as progress:
        prepared = prepare(experiment, progress=progress)
    with ModelStore(store) as opened, shown() as progress:
        recommender = prepared.train(opened, robust=chain.robust, search=search, progress=progress)
        description = describe(
            recommender,
            presets={
                name: chain.settings(each)
                for name, each in {**PRESETS[model], preset: settings}.items()
            },
            watched=prepared.watched,
            list_length=list_length,
        )
        tally = Tally(
            users=recommender.user_count, eligible=eligible_users(recommender, prepared.watched)
        )

        neighbors = recommender.neighbor_search

        def listening(port: int, metrics_port: int | None) -> None:
            typer.echo(f"listening on 127.0.0.1:{port}  version {description.version[:12]}…")
            typer.echo(f"neighbors: {neighbors}")
            if metrics_port is not None:
                typer.echo(f"metrics on http://127.0.0.1:{metrics_port}/metrics")
            if port_file is not None:
                # Last, because it tells a waiting process that all is there.
                write_file(port_file, f"{port}\n".encode())

        with written_serving(store / "serving", recommender, description) as folder:
            if device_ratings is not None:
                write_local_ratings(device_ratings, prepared.local)
            # The front serves files and asks workers: it needs neither ratings nor model.
            del recommender, prepared
            asyncio.run(serve_front(folder, description, tally, front, listening=listening))
