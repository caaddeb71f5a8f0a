"""`vicinal tally`: what devices reported, from the tally's file or from a server."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sims.commands import options
from sims.commands.expanding import expanded

if TYPE_CHECKING:  # loaded when a command runs
    from sims.commands.tally_report import Told

app = typer.Typer(
    help="Say what devices reported, and what liars can move.",
    no_args_is_help=True,
    add_completion=False,
)

RobustOption = Annotated[
    bool,
    typer.Option(
        "--robust",
        help="Trimmed means over shards too, and what 1, 5 and 10 % of liars can move.",
    ),
]


@dataclass(frozen=True)
class TallySource:
    """Where the tally is read: a file, or a server when one is named."""

    store: options.StoreOption = Path("runs/store")
    tally_file: Annotated[
        Path | None,
        typer.Option(
            "--tally",
            help="The file of `vicinal serve --tally`; default: the one in the store.",
            metavar="FILE",
        ),
    ] = None
    database: options.DatabaseOption = None
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            help="Ask this server instead of reading a file: whole hundreds of reports.",
            metavar="HOST:PORT",
        ),
    ] = None
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca", help="With --server: the authority that signed its certificate.", metavar="FILE"
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            help="With --server: PEM, for one that asks for certificates.",
            metavar="FILE",
        ),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The private key of --certificate (PEM).", metavar="FILE"),
    ] = None
    token: Annotated[
        Path | None,
        typer.Option(
            "--token",
            help="With --server: a file with what `vicinal token --operator` printed.",
            metavar="FILE",
        ),
    ] = None
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Ask another machine without encryption too.")
    ] = False

    ids: Annotated[
        Path | None,
        typer.Option(
            "--ids",
            help="What items are called: a map that `vicinal data ids` wrote.",
            metavar="FILE",
        ),
    ] = None

    def read(self) -> "list[Told]":
        """Raises VicinalError."""
        from common.errors import InputError
        from sims.commands.tally_report import told_by_database, told_by_file, told_by_server

        if self.database is not None:
            if self.server is not None or self.tally_file is not None:
                raise InputError("give one of --database, --server and --tally")
            return told_by_database(self.database)
        if self.server is None:
            from server.reports.tally import FILE_NAME

            return told_by_file(self.tally_file or self.store / FILE_NAME)
        from client.link.channel import Access
        from client.link.connection import Connection

        access = Access(self.ca, self.certificate, self.key, self.token, self.insecure)
        with Connection(self.server, access=access) as connection:
            return told_by_server(connection)


def _quiet() -> None:
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _print(told: "Sequence[Told]", ids: Path | None, *, robust: bool) -> None:
    from rich.console import Console

    from sims.commands.tally_report import named, tables

    console = Console()
    for table in tables(told, named(told, ids), robust=robust):
        console.print(table)


@app.command("show")
@expanded()
def show_command(
    source: TallySource,
    robust: RobustOption = False,
    json_file: options.JsonOption = None,
) -> None:
    """Print reports, hit ratios and accuracy of each model version and preset.

    From a file or a database: all reports so far; it is only read, and servers may be writing it.
    From a server: the sums as they were at the last hundredth report.
    """
    import json

    from common.files import write_output
    from sims.commands.tally_report import named, tally_json

    _quiet()
    told = source.read()
    _print(told, source.ids, robust=robust)
    if json_file is not None:
        write_output(
            json_file,
            f"{json.dumps(tally_json(told, named(told, source.ids)), indent=2)}\n".encode(),
        )


@app.command("watch")
@expanded()
def watch_command(
    source: TallySource,
    robust: RobustOption = False,
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="Seconds between two looks.")
    ] = 5.0,
) -> None:
    """As show, again whenever something has changed, until Ctrl-C."""
    _quiet()
    before: list[Told] | None = None
    try:
        while True:
            told = source.read()
            if told != before:
                typer.echo(time.strftime("%Y-%m-%d %H:%M:%S"))
                _print(told, source.ids, robust=robust)
            before = told
            time.sleep(every)
    except KeyboardInterrupt:
        # What ends it is no error.
        return


@app.command("export")
@expanded()
def export_command(
    source: TallySource,
    form: Annotated[
        str, typer.Option("--format", help="json or csv.", metavar="json|csv")
    ] = "json",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; default: print it.", metavar="FILE"),
    ] = None,
) -> None:
    """Write everything for other programs: JSON, or CSV with a line for each number."""
    import json

    from common.errors import InputError
    from common.files import write_output
    from sims.commands.tally_report import named, tally_csv, tally_json

    if form not in ("json", "csv"):
        raise InputError(f"--format {form[:40]!r}: choose json or csv")
    _quiet()
    told = source.read()
    text = (
        tally_csv(told, named(told, source.ids))
        if form == "csv"
        else f"{json.dumps(tally_json(told, named(told, source.ids)), indent=2)}\n"
    )
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_output(output, text.encode())
