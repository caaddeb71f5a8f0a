"""`vicinal certs`: a development authority, and certificates for a server and its devices."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def certs(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder to write the files into.", metavar="FOLDER"),
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            help="A name or address of the server beside localhost; repeat for several.",
            metavar="NAME",
        ),
    ] = None,
    devices: Annotated[
        int,
        typer.Option("--devices", min=0, max=10_000, help="How many devices get a certificate."),
    ] = 1,
    nodes: Annotated[
        int,
        typer.Option("--nodes", min=0, max=10_000, help="How many nodes of Flower get a key."),
    ] = 0,
    days: Annotated[
        int, typer.Option("--days", min=1, max=3650, help="Days for which they are valid.")
    ] = 30,
) -> None:
    """Write certificates (.pem) and keys (.key) to try encryption with; overwrites nothing.

    `vicinal serve` takes server.pem, server.key and, to ask devices for certificates, ca.pem;
    `vicinal device` takes ca.pem, and device-1.pem with device-1.key. A node of Flower takes ca.pem
    and node-0.key, and its SuperLink ca.pem, server.pem and server.key; node-0.pub is registered.
    """
    from server.trust.certificates import make_certificates

    for path in make_certificates(
        output, hosts=host or (), devices=devices, nodes=nodes, days=days
    ):
        typer.echo(path)
