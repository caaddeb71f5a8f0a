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
    days: Annotated[
        int, typer.Option("--days", min=1, max=3650, help="Days for which they are valid.")
    ] = 30,
) -> None:
    """Write certificates (.pem) and keys (.key) to try encryption with; overwrites nothing.

    `vicinal serve` takes server.pem, server.key and, to ask devices for certificates, ca.pem;
    `vicinal device` takes ca.pem, and device-1.pem with device-1.key.
    """
    from server.trust.certificates import make_certificates

    for path in make_certificates(output, hosts=host or (), devices=devices, days=days):
        typer.echo(path)
