"""`vicinal serve`: a server that ships offload packages, over gRPC."""

from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.options import StudyOptions
from sims.commands.reading import ReadingFlags

app = typer.Typer(add_completion=False)

DEFAULT_PORT = 50551


@app.command()
@expanded(attack="none")
def serve(
    study: StudyOptions,
    reading: ReadingFlags,
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
    presets: Annotated[
        str | None,
        typer.Option(
            "--presets",
            help="What devices may ask for, as vicinal,paper; default: what --preset names.",
            metavar="NAMES",
        ),
    ] = None,
    release: options.ReleaseOption = "rows",
    store: options.StoreOption = Path("runs/store"),
    tally_file: Annotated[
        Path | None,
        typer.Option(
            "--tally",
            help="SQLite file that keeps what devices reported; default: in the store.",
            metavar="FILE",
        ),
    ] = None,
    database: options.DatabaseOption = None,
    versions: Annotated[
        str | None,
        typer.Option(
            "--versions",
            help="With --database: where servers share model versions: a folder as file:///…, or "
            "s3://…, gs://….",
            metavar="URL",
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
    survey: Annotated[
        int | None,
        typer.Option(
            "--survey",
            min=0,
            help="Look at each new version with so many users: who their neighbors are, and lists "
            "with and without the defense; for the metrics. Default: 100 with --metrics-port, "
            "else 0.",
            metavar="N",
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
    open_to_all: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Ask for no tokens: whoever is on this machine gets anybody's packages.",
        ),
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
            help="Answers a second for one user, and reports of one token; default: any number.",
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
    daily_exposure: Annotated[
        int | None,
        typer.Option(
            "--daily-exposure",
            min=1,
            help="Distinct users whom one neighbor is shown to in a day (UTC); default: any "
            "number.",
            metavar="N",
        ),
    ] = None,
    max_calls: Annotated[
        int,
        typer.Option(
            "--max-calls", min=1, help="How many calls, and how many connections, at a time."
        ),
    ] = 4096,
    peer_calls: Annotated[
        int | None,
        typer.Option(
            "--peer-calls",
            min=1,
            help="How many calls of one address; default: a 32nd. Connections: a quarter.",
        ),
    ] = None,
    token_calls: Annotated[
        int | None,
        typer.Option(
            "--token-calls", min=1, help="How many calls with one token; default: a 64th."
        ),
    ] = None,
    peer_bytes: options.PeerBytesOption = options.PEER_BYTES,
    call_seconds: options.CallSecondsOption = options.CALL_SECONDS,
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
    refresh_every: Annotated[
        float | None,
        typer.Option(
            "--refresh-every",
            min=1,
            help="Look for new users after so many seconds, again and again, and answer them "
            "without a training; default: with the next version.",
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

    Devices can ask for the preset that --preset names, or for all that --presets names; --k,
    --steps, --unrated-weight and --min-support change the one that --preset names. Without rvd in
    --defense devices rank with the model as it was trained. One process listens, --workers others
    compute; when too many requests wait, more are refused with a hint when to try again. At SIGHUP,
    and with --retrain-every, a child process trains a new version on the ratings as they are then,
    from the one that is served; users and items may have been added. With --refresh-every new users
    are answered before that, from their own ratings. With --release book devices get the book of a
    version, and answer without the server (docs/private-offload.md). SIGTERM and Ctrl-C let calls
    under way finish, then end it.

    With --database several servers are one: PostgreSQL keeps tally, budgets, keys of tokens and the
    list of versions, --versions their bytes. Any device may ask any of them. One trains, and the
    others take its versions over; when it dies, another one trains. A password belongs into
    PGPASSWORD or ~/.pgpass.
    """
    import os

    # gRPC's own lines about a port in use would stand before ours; read when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from common.files import remove_folder
    from server.cluster.blobs import BlobStore
    from server.front.doorman import require_free_port
    from server.sql.postgresql import Database
    from server.trust.tls import checked_tls
    from server.trust.token_tables import read_shared_keys
    from server.trust.tokens import read_token_keys

    # Before anything is trained: what would be unsafe or cannot be is refused at once.
    _check_together(
        release, database, versions, tally_file, limited=bool(daily_neighbors or daily_exposure)
    )
    shared = None
    if database is not None and versions is not None:
        from sims.serving.shared_places import SharedPlaces

        BlobStore(versions)
        shared = SharedPlaces(database, versions)
    keys = None if token_secret is None else read_token_keys(token_secret)
    shared_keys = shared is not None and keys is None and not open_to_all
    if shared is not None and shared_keys:
        with Database(shared.database) as opened_database:
            keys = read_shared_keys(opened_database)
    tls = checked_tls(
        host,
        (tls_certificate, tls_key, client_ca),
        tokens=keys is not None,
        open_to_all=open_to_all,
    )

    require_free_port(host, port)
    if metrics_port is not None:
        require_free_port("127.0.0.1", metrics_port, "--metrics-port")

    from server.model_store import ModelStore
    from sims.serving.in_child import in_child

    def prepare(opened: ModelStore) -> None:
        from sims.serving.prepare import Serving

        serving = Serving(
            study.study(reading.options(), release=release),
            hold_out,
            neighbor_search,
            device_ratings,
            presets=None if presets is None else [name.strip() for name in presets.split(",")],
            retrained=retrain_every is not None,
            survey=(0 if metrics_port is None else 100) if survey is None else survey,
        )
        if shared is None:
            serving.write(opened.serving(), opened)
            return
        from sims.serving.joining import join

        join(shared, serving, opened.serving(), opened, grace)

    with ModelStore(store) as opened:
        folder = opened.serving()
        try:
            # Forked before anything else is loaded: what the front does not need never enters it.
            in_child(lambda: prepare(opened))

            from server.trust.places import CallLimits
            from server.workers.crew import QueueLimits
            from sims.serving.listening import Wanted, listen

            wanted = Wanted(
                host=host,
                port=port,
                port_file=port_file,
                tls=tls,
                keys=keys,
                tally=tally_file,
                workers=workers,
                queue=QueueLimits(queue, queue_ms / 1000),
                compiled=compiled,
                metrics_port=metrics_port,
                user_rate=user_rate,
                daily_neighbors=daily_neighbors,
                daily_exposure=daily_exposure,
                calls=CallLimits.of(max_calls, peer_calls, token_calls),
                peer_bytes=peer_bytes,
                call_seconds=call_seconds,
                grace=grace,
                retrain_every=retrain_every,
                refresh_every=refresh_every,
                shared=shared,
                shared_keys=shared_keys,
            )
            listen(folder, store, wanted)
        finally:
            remove_folder(folder)


def _check_together(
    release: str,
    database: str | None,
    versions: str | None,
    tally: Path | None,
    *,
    limited: bool,
) -> None:
    """Raises InputError for options that do not go together; `limited`: neighbors are counted."""
    from common.errors import InputError

    if (database is None) != (versions is None):
        raise InputError("give --database and --versions together")
    if database is not None and tally is not None:
        raise InputError("give --tally or --database, not both")
    if release == "book" and limited:
        raise InputError("a book shows no neighbors: leave out --daily-neighbors, --daily-exposure")
    if release == "book" and database is not None:
        raise InputError("a book's noise is of one store: leave out --database, or --release book")
