"""`vicinal cluster`: several servers that are one, on this machine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options

app = typer.Typer(add_completion=False)


@app.command()
def cluster(
    servers: Annotated[
        int, typer.Option("--servers", min=2, max=20, help="How many servers to start.")
    ] = 3,
    users: Annotated[
        int, typer.Option("--users", min=30, max=5000, help="Users of the synthetic ratings.")
    ] = 300,
    database: options.DatabaseOption = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Folder of the servers' files and logs.")
    ] = Path("runs/cluster"),
    json_file: options.JsonOption = None,
) -> None:
    """Run several servers that are one on this machine, and kill one of them.

    A PostgreSQL is started, unless --database names one, and servers that share it. Devices ask
    them in turns; then the server that trains is killed, and devices go on with the others, some of
    them through nginx where it is installed. The exit code is 1 when a user was not answered, or a
    report was not counted once. Everything that was started is stopped.
    """
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from rich.console import Console
    from rich.table import Table

    from common.files import make_folder, remove_folder, write_output
    from sims.processes.lock import locked
    from sims.progress import shown
    from sims.serving.cluster import run_cluster

    arguments = ["--dataset", f"synthetic:{users}x200", "--workers", "1", "--list-length", "10"]
    make_folder(folder)
    with locked(folder, " or choose another --folder"), shown() as progress:
        # Of a run before, whose database is gone.
        for own in (*(folder / f"server-{place + 1}" for place in range(servers)),
                    folder / "device"):  # fmt: skip
            remove_folder(own)
        result = run_cluster(
            folder,
            arguments,
            servers=servers,
            users=users,
            preset="vicinal",
            database=database,
            report=progress,
        )
    table = Table(title=f"{servers} servers, one of them killed")
    table.add_column("")
    table.add_column("", justify="right")
    balanced = "–" if result.balanced is None else f"{result.balanced:,}"
    for text, value in (
        ("users answered", f"{result.users:,}"),
        ("… through nginx", balanced),
        ("users in reports, by devices", f"{result.reported:,}"),
        ("… by the database", f"{result.counted:,}"),
        ("seconds until another server trains", f"{result.failover:.1f}"),
    ):
        table.add_row(text, value)
    Console().print(table)
    if result.balanced is None:
        typer.echo("nginx is not installed: devices asked the servers in turns themselves")
    if json_file is not None:
        write_output(json_file, f"{json.dumps(asdict(result), indent=2)}\n".encode())
