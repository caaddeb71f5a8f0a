"""`vicinal gateway`: HTTP and JSON in front of a server."""

from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options

app = typer.Typer(add_completion=False)

DEFAULT_PORT = 8550


@app.command()
def gateway(
    server: Annotated[
        str, typer.Option("--server", help="Where `vicinal serve` listens.", metavar="HOST:PORT")
    ] = "127.0.0.1:50551",
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="The address to listen on; others than this machine's own need encryption, and a "
            "server that asks for tokens.",
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
    ids: Annotated[
        Path | None,
        typer.Option(
            "--ids",
            help="What users and items are called: a map that `vicinal data ids` wrote; default: "
            "their indices. It is read again when it has changed.",
            metavar="FILE",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            help="A site whose pages may read answers in a browser, as https://shop.example; "
            "repeat for several; default: none.",
            metavar="ORIGIN",
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
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            help="The authority that signed the server's certificate; encrypts what goes there.",
            metavar="FILE",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            help="PEM, with --key: for a server that asks for certificates.",
            metavar="FILE",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The private key of --certificate (PEM).", metavar="FILE"),
    ] = None,
    max_calls: Annotated[
        int,
        typer.Option(
            "--max-calls",
            min=1,
            help="How many requests at a time; the server's --peer-calls should be as many.",
        ),
    ] = 128,
    peer_calls: Annotated[
        int | None,
        typer.Option("--peer-calls", min=1, help="How many of one address; default: 8."),
    ] = None,
    peer_bytes: options.PeerBytesOption = options.PEER_BYTES,
    call_seconds: options.CallSecondsOption = options.CALL_SECONDS,
    server_metrics: Annotated[
        int | None,
        typer.Option(
            "--server-metrics",
            min=1,
            max=65535,
            help="The server's --metrics-port on this machine, for the page at /; default: the "
            "page shows versions alone.",
            metavar="PORT",
        ),
    ] = None,
) -> None:
    """Answer HTTP requests with what a server recommends: for browsers and other thin clients.

    A caller's bearer token is shown to the server, which judges it, and counts rates and budgets.
    /docs says what can be asked. SIGTERM and Ctrl-C let requests under way finish, then end it.
    """
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from client.link.channel import Access
    from server.trust.places import CallLimits
    from sims.serving.gateway import Behind, listen

    listen(
        Behind(server, Access(ca, certificate, key)),
        host=host,
        port=port,
        port_file=port_file,
        ids=ids,
        origins=tuple(allow_origin or ()),
        tls=(tls_certificate, tls_key),
        calls=CallLimits.of(max_calls, peer_calls),
        peer_bytes=peer_bytes,
        call_seconds=call_seconds,
        metrics=server_metrics,
    )
