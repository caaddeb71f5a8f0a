"""TLS of a server: its certificate, and whether devices need one too."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from common.addresses import is_loopback
from common.errors import InputError
from common.tls_files import Identity, read_authority, read_identity


@dataclass(frozen=True)
class Tls:
    """A server's certificate, and the authority that must have signed the devices'.

    client_ca  PEM; None asks devices for no certificate
    """

    identity: Identity
    client_ca: bytes | None = None

    def credentials(self) -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials(
            [(self.identity.key, self.identity.certificate)],
            root_certificates=self.client_ca,
            require_client_auth=self.client_ca is not None,
        )


Files = tuple[Path | None, Path | None, Path | None]


def checked_tls(host: str, files: Files, *, tokens: bool, open_to_all: bool) -> Tls | None:
    """What a server may listen on `host` with; None: without encryption.

    files        certificate, key, and the authority of devices' certificates
    tokens       are asked of devices
    open_to_all  whether callers of this machine may be whoever they say

    Raises InputError for files that cannot be used together, for what would cross a network
    without encryption, and for a server that would give packages to everybody.
    """
    tls = _read_tls(*files)
    if tokens and open_to_all:
        raise InputError("give --token-secret or --open, not both")
    if not tokens and not is_loopback(host):
        raise InputError(
            f"{host}: other machines reach it, and without tokens it gives everybody's packages "
            "to anybody: give --token-secret (`vicinal token` makes keys and tokens)"
        )
    if not tokens and not open_to_all:
        raise InputError(
            "whose packages may a caller have? Give --token-secret (`vicinal token` makes keys "
            "and tokens), or --open for everybody's, to anybody on this machine"
        )
    if tls is None and not is_loopback(host):
        raise InputError(
            f"{host}: tokens must not cross a network without encryption: "
            "give --tls-certificate and --tls-key (`vicinal certs` makes them)"
        )
    return tls


def _read_tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise InputError("give --tls-certificate and --tls-key together")
    return Tls(
        read_identity(certificate, key, "server"),
        None if client_ca is None else read_authority(client_ca),
    )
