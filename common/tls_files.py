"""Checks of certificate files before anything connects or listens; standard library only.

A certificate is judged by OpenSSL itself: a handshake in memory, in which one side shows the
certificate and the other trusts nothing but it.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from common.errors import InputError
from common.files import require_secret

Role = Literal["server", "device"]


class Identity(NamedTuple):
    """A certificate (PEM, with what it is signed by, if not a root) and its private key (PEM)."""

    certificate: bytes
    key: bytes


def read_identity(certificate: Path, key: Path, role: Role) -> Identity:
    """A certificate that can be shown now by a server or a device.

    Raises InputError when a file cannot be read, when everybody can read the key, when they do not
    belong together, and for a certificate that has expired, is not valid yet or is for another use.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if role == "server" else _CLIENT)
    _show(context, certificate, key)
    verifier = ssl.SSLContext(_CLIENT if role == "server" else ssl.PROTOCOL_TLS_SERVER)
    verifier.check_hostname = False
    verifier.verify_mode = ssl.CERT_REQUIRED
    verifier.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    verifier.load_verify_locations(certificate)
    if role == "device":
        # A server has to show something too; here nobody looks at it.
        _show(verifier, certificate, key)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    server, client = (context, verifier) if role == "server" else (verifier, context)
    try:
        _shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        raise InputError(f"{certificate}: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise InputError(f"{certificate}: cannot be used ({_reason(error)})") from error
    return Identity(_read(certificate), _read(key))


def read_authority(path: Path) -> bytes:
    """The certificates (PEM) of authorities to be trusted, of which one at least is valid now.

    Raises InputError when the file cannot be read, holds none, or all of them have expired.
    """
    context = ssl.SSLContext(_CLIENT)
    try:
        context.load_verify_locations(path)
    except OSError as error:
        _refuse(path, error, "holds no certificate")
    ends = [_seconds(one, "notAfter") for one in context.get_ca_certs()]
    if not ends:
        raise InputError(f"{path}: holds no certificate of an authority")
    if max(ends) < time.time():
        raise InputError(f"{path}: certificate has expired")
    return _read(path)


_CLIENT = ssl.PROTOCOL_TLS_CLIENT


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def no_password() -> NoReturn:
        raise InputError(f"{key}: is encrypted: give a key without a password")

    # load_cert_chain names neither file when one is missing.
    _read(certificate), _read(key)
    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(f"{key}: is not the key of {certificate}") from error
        _refuse(certificate, error, f"holds no certificate, or {key} no key")
    require_secret(key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        _refuse(path, error, "")


def _refuse(path: Path, error: OSError, otherwise: str) -> NoReturn:
    if isinstance(error, ssl.SSLError):
        raise InputError(f"{path}: {otherwise} (PEM is wanted)") from error
    raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _seconds(certificate: object, name: str) -> float:
    assert isinstance(certificate, dict)
    return ssl.cert_time_to_seconds(certificate[name])


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "unknown").lower().replace("_", " ")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Raises ssl.SSLError when either side refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    steps: list[Callable[[], None]] = [
        client.wrap_bio(to_client, to_server).do_handshake,
        server.wrap_bio(to_server, to_client, server_side=True).do_handshake,
    ]
    while steps:
        for step in tuple(steps):
            try:
                step()
            except ssl.SSLWantReadError:
                continue
            steps.remove(step)
