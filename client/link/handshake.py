"""Why a TLS handshake fails, asked with the standard library: gRPC says only UNAVAILABLE."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.tls_files import Identity

SECONDS: Final = 2.0
# OpenSSL's numbers of the reasons that have words of their own here.
UNKNOWN_AUTHORITY: Final = {18, 19, 20, 21}
NO_TLS: Final = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}


@dataclass(frozen=True)
class Authority:
    """The authority that a device trusts, and the certificate that it shows.

    path, pem        of the authority's certificate
    identity, files  a certificate and its key; None shows nothing
    """

    path: Path
    pem: bytes
    identity: Identity | None = None
    files: tuple[Path, Path] | None = None


def refusal_of_tls(host: str, port: int, authority: Authority) -> str | None:
    """Why the TLS handshake is refused, by either side; None when it is not, or nobody listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.pem.decode("ascii", "replace"))
    if authority.files is not None:
        context.load_cert_chain(*authority.files)
    try:
        _greet(context, host, port)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in UNKNOWN_AUTHORITY:
            return f"its certificate is not signed by the authority in {authority.path}"
        return f"its certificate is refused: {error.verify_message}"
    except ssl.SSLError as error:
        if error.reason in NO_TLS:
            return "it does not encrypt: leave --ca out if that is right"
        return None
    except _DismissedError:
        if authority.files is None:
            return "it asks for a certificate: give --certificate and --key"
        return f"it does not take the certificate in {authority.files[0]}"
    except OSError:
        return None
    return None


def refusal_of_plaintext(host: str, port: int) -> str | None:
    """Words for a server that speaks TLS; None for any other, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Nothing is sent: whether it speaks TLS is all that is asked.
    context.verify_mode = ssl.CERT_NONE
    try:
        _greet(context, host, port)
    except _DismissedError:
        pass
    except OSError:
        return None
    return "it encrypts: give --ca with the authority of its certificate"


class _DismissedError(Exception):
    """The server judged what we showed, after the handshake was over for us, and hung up."""


def _greet(context: ssl.SSLContext, host: str, port: int) -> None:
    """Shake hands and wait for a first byte, which every gRPC server sends by itself.

    Raises ssl.SSLError, OSError, _DismissedError.
    """
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, port), timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        try:
            first = encrypted.recv(1)
        except TimeoutError:
            raise
        except OSError as error:
            raise _DismissedError from error
        if not first:
            raise _DismissedError
