"""`vicinal serve`: a server that ships offload packages, over gRPC."""

from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options
from sims.commands.options import StudyOptions, expanded

app = typer.Typer(add_completion=False)

DEFAULT_PORT = 50551


@app.command()
@expanded(attack="none")
def serve(
    study: StudyOptions,
    hold_out: Annotated[
        bool,
        typer.Option(
            "--hold-out",
            help="Withhold one rating of every user, so that devices can measure accuracy: an "
            "experiment.",
        ),
    ] = False,
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
    tally_file: Annotated[
        Path | None,
        typer.Option(
            "--tally",
            help="SQLite file that keeps what devices reported; default: in the store.",
            metavar="FILE",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="The address to listen on; others than this machine's own need encryption.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, help="The port to listen on; 0 picks a free one."),
    ] = DEFAULT_PORT,
    port_file: Annotated[
        Path | None,
        typer.Option("--port-file", help="Write the port here once it listens.", metavar="FILE"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=1024, help="Worker processes; default: one a core."),
    ] = None,
    queue: Annotated[
        int, typer.Option("--queue", min=0, help="How many requests may wait; more are refused.")
    ] = 64,
    queue_ms: Annotated[
        float,
        typer.Option(
            "--queue-ms",
            min=0,
            help="Expected wait in milliseconds above which requests are refused.",
        ),
    ] = 20.0,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compiled",
            help="Fine-tune preset paper in compiled loops: faster, and not a device's last digit.",
        ),
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=0,
            max=65535,
            help="Serve Prometheus metrics on 127.0.0.1; 0 picks a free port.",
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            "--tls-certificate",
            help="Encrypt with this certificate (PEM) and --tls-key; `vicinal certs` makes some.",
            metavar="FILE",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            "--tls-key", help="The private key of --tls-certificate (PEM).", metavar="FILE"
        ),
    ] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            "--client-ca",
            help="Ask devices for a certificate that this authority signed (PEM).",
            metavar="FILE",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen without encryption on another address too.")
    ] = False,
    token_secret: Annotated[
        Path | None,
        typer.Option(
            "--token-secret",
            help="Keys of `vicinal token`: a device gets packages for its own users only.",
            metavar="FILE",
        ),
    ] = None,
    user_rate: Annotated[
        float | None,
        typer.Option(
            "--user-rate",
            min=0.001,
            help="Calls a second that one user may make; default: any number.",
            metavar="N",
        ),
    ] = None,
    daily_neighbors: Annotated[
        int | None,
        typer.Option(
            "--daily-neighbors",
            min=1,
            help="Distinct neighbors that one user is shown in a day (UTC); default: any number.",
            metavar="N",
        ),
    ] = None,
    max_calls: Annotated[
        int,
        typer.Option(
            "--max-calls", min=1, help="How many calls, and how many connections, at a time."
        ),
    ] = 4096,
    call_seconds: Annotated[
        float,
        typer.Option("--call-seconds", min=0.1, help="Seconds after which the server ends a call."),
    ] = 60.0,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            min=0,
            help="Seconds for which a model version that was replaced is still answered for.",
            metavar="SECONDS",
        ),
    ] = 600.0,
    retrain_every: Annotated[
        float | None,
        typer.Option(
            "--retrain-every",
            min=1,
            help="Train a new version after so many seconds, again and again; SIGHUP does it once.",
            metavar="SECONDS",
        ),
    ] = None,
    device_ratings: Annotated[
        Path | None,
        typer.Option(
            "--device-ratings",
            help="Write what each user's device knows into a folder, a file for each: `vicinal "
            "device --ratings` reads them.",
            metavar="FOLDER",
        ),
    ] = None,
) -> None:
    """Train a model, or take it from the store, and serve it to devices.

    It serves the ratings as they are, all of them. With --attack or --hold-out it is an experiment,
    and says so: when it starts, in its log, and to every device that asks what it serves. --targets
    names items whose hit ratio devices measure.

    Both presets can be asked for; --k, --steps, --unrated-weight and --min-support change the
    one that --preset names. Without rvd in --defense devices rank with the model as it was
    trained. One process listens, --workers others compute; when too many requests wait, more
    are refused with a hint when to try again. At SIGHUP, and with --retrain-every, a child process
    trains a new version on the ratings as they are then, from the one that is served. SIGTERM and
    Ctrl-C let calls under way finish, then end it.
    """
    import os

    # gRPC's own lines about a port in use would stand before ours; read when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from common.addresses import join_address
    from common.files import remove_folder
    from server.trust.tls import checked_tls
    from server.trust.tokens import read_token_keys

    # Before anything is trained: what would be unsafe is refused at once.
    keys = None if token_secret is None else read_token_keys(token_secret)
    tls = checked_tls(
        host, (tls_certificate, tls_key, client_ca), tokens=keys is not None, insecure=insecure
    )

    from server.model_store import ModelStore
    from sims.serving.in_child import in_child

    def prepare(opened: ModelStore) -> None:
        from sims.serving.prepare import Serving

        Serving(
            study.study(),
            hold_out,
            neighbor_search,
            device_ratings,
            retrained=retrain_every is not None,
        ).write(opened.serving(), opened)

    with ModelStore(store) as opened:
        folder = opened.serving()
        try:
            # Forked before anything else is loaded: what the front does not need never enters it.
            in_child(lambda: prepare(opened))

            import json

            import uvloop

            from common.files import write_output
            from server.front.endpoint import Listening
            from server.front.rotation import Retraining
            from server.front.run import FrontOptions, core_count, serve_front
            from server.reports.tally import FILE_NAME, Tally, measured_by
            from server.trust import receipts
            from server.trust.guard import Guard
            from server.versions.folder import NOTES_FILE, current_version, read_description
            from server.workers.crew import QueueLimits
            from sims.terminal import notes_wanted

            description, eligible = read_description(folder, current_version(folder))
            notes = json.loads((folder / NOTES_FILE).read_bytes())

            if description.experiment:
                typer.echo(f"EXPERIMENT: {description.experiment}", err=True)

            def listening(port: int, metrics_port: int | None) -> None:
                typer.echo(
                    f"listening on {join_address(host, port)}  version {description.version[:12]}…"
                )
                for line in notes["neighbors"] if notes_wanted() else ():
                    typer.echo(line)
                if metrics_port is not None:
                    typer.echo(f"metrics on http://127.0.0.1:{metrics_port}/metrics")
                if port_file is not None:
                    # Last, because it tells a waiting process that all is there.
                    write_output(port_file, f"{port}\n".encode())

            tally = Tally(
                users=description.user_count,
                eligible=eligible,
                measured=measured_by(
                    description.presets, description.watched, description.list_length
                ),
                path=tally_file or store / FILE_NAME,
            )
            front = FrontOptions(
                port,
                workers or core_count(),
                QueueLimits(queue, queue_ms / 1000),
                metrics_port,
                grace,
                Listening(host, tls, max_calls, max_calls),
                Guard(keys, user_rate, daily_neighbors, call_seconds),
                receipts.receipt_key(store / receipts.FILE_NAME),
                compiled,
            )
            with tally:
                command = notes["retrain"]
                retraining = None if command is None else Retraining(command, retrain_every)
                # A call takes less processor time on uvloop than on asyncio's own loop.
                uvloop.run(
                    serve_front(folder, tally, front, retraining=retraining, listening=listening)
                )
        finally:
            remove_folder(folder)
