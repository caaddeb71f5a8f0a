"""What `vicinal gateway` does once its options are read: check them, and listen."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer
import uvloop

from client.link.channel import Access, async_channel
from common.addresses import is_loopback, join_address
from common.errors import InputError
from common.files import write_output
from common.tls_files import read_identity
from server.front.doorman import require_free_port
from server.gateway.run import GatewayOptions, serve_gateway
from server.trust.places import CallLimits

_ORIGIN: Final = re.compile(
    r"https?://[A-Za-z0-9.\-]{1,253}(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?"
)


@dataclass(frozen=True)
class Behind:
    """The server behind the gateway, and how it is reached."""

    address: str
    access: Access


def listen(
    behind: Behind,
    *,
    host: str,
    port: int,
    port_file: Path | None,
    ids: Path | None,
    origins: tuple[str, ...],
    tls: tuple[Path | None, Path | None],
    calls: CallLimits,
    peer_bytes: float,
    call_seconds: float,
    metrics: int | None,
) -> None:
    """Answer until SIGTERM or SIGINT. Raises InputError, VicinalError."""
    for origin in origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise InputError(
                f"--allow-origin {origin[:80]!r}: give a scheme and a host, as https://shop.example"
            )
    identity = _checked(host, tls)
    require_free_port(host, port)
    options = GatewayOptions(
        host=host,
        port=port,
        tls=identity,
        ids=ids,
        origins=origins,
        calls=calls,
        peer_bytes=peer_bytes,
        call_seconds=call_seconds,
        metrics=metrics,
    )

    def listening(given: int) -> None:
        scheme = "http" if identity is None else "https"
        typer.echo(f"listening on {scheme}://{join_address(host, given)}  server {behind.address}")
        if port_file is not None:
            # Last, because it tells a waiting process that all is there.
            write_output(port_file, f"{given}\n".encode())

    uvloop.run(
        serve_gateway(
            options,
            lambda: async_channel(behind.address, behind.access),
            listening=listening,
        )
    )


def _checked(host: str, tls: tuple[Path | None, Path | None]) -> tuple[Path, Path] | None:
    """Certificate and key. Raises InputError for what would cross a network without encryption."""
    certificate, key = tls
    if certificate is None and key is None:
        if not is_loopback(host):
            raise InputError(
                f"{host}: tokens must not cross a network without encryption: "
                "give --tls-certificate and --tls-key (`vicinal certs` makes them)"
            )
        return None
    if certificate is None or key is None:
        raise InputError("give --tls-certificate and --tls-key together")
    read_identity(certificate, key, "server")
    return certificate, key
