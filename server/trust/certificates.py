"""A development authority with certificates for one server and its devices, and keys of nodes.

ECDSA on P-256, SHA-256. For trying things out and for tests: its key lies beside what it signs.
Nodes of Flower have no certificates: a SuperLink knows their keys, which are on P-384.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import InputError

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
# For machines whose clocks are a little behind.
BACKDATED: Final = timedelta(hours=1)
_NODE: Final = (".key", ".pub")


@dataclass(frozen=True)
class _Signed:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(
    folder: Path,
    *,
    hosts: Sequence[str] = (),
    devices: int = 1,
    nodes: int = 0,
    days: int = 30,
    start: datetime | None = None,
) -> list[Path]:
    """Write ca, server, device-1, device-2 … as .pem and .key; their paths.

    hosts  names and addresses of the server, beside those of this machine
    nodes  of a Flower fleet: node-0, node-1 … as .key and .pub, in the form of OpenSSH
    start  of the `days` of validity; now, when it is None

    Keys are for their owner alone (mode 0600), and no file is overwritten. Raises InputError
    for a file that is there already and for a name that no certificate can hold, OSError.
    """
    begin = datetime.now(UTC) if start is None else start
    period = (begin - BACKDATED, begin + timedelta(days=days))
    names = ["ca", "server", *(f"device-{number}" for number in range(1, devices + 1))]
    paths = [folder / f"{name}{suffix}" for name in names for suffix in (".pem", ".key")]
    node_paths = [folder / f"node-{node}{suffix}" for node in range(nodes) for suffix in _NODE]
    for path in (*paths, *node_paths):
        if path.exists():
            raise InputError(f"{path} is there already: choose another folder")
    ca = _authority(period)
    signed = [ca, _leaf(ca, period, "server", _alternatives((*LOCAL_HOSTS, *hosts)))]
    signed += [_leaf(ca, period, name, None) for name in names[2:]]
    folder.mkdir(parents=True, exist_ok=True)
    for place, one in enumerate(signed):
        _write(paths[2 * place], _pem(one.certificate), 0o644)
        _write(paths[2 * place + 1], _key_pem(one.key), 0o600)
    for node in range(nodes):
        key = ec.generate_private_key(ec.SECP384R1())
        _write(node_paths[2 * node], _openssh(key), 0o600)
        _write(node_paths[2 * node + 1], _openssh_public(key), 0o644)
    return paths + node_paths


def _authority(period: tuple[datetime, datetime]) -> _Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("vicinal development authority")
    usage = _usage(signs_certificates=True)
    certificate = (
        _builder(name, key, period)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Signed(certificate, key)


def _leaf(
    ca: _Signed,
    period: tuple[datetime, datetime],
    name: str,
    hosts: x509.SubjectAlternativeName | None,
) -> _Signed:
    """A server's certificate when it has hosts, else a device's."""
    key = ec.generate_private_key(ec.SECP256R1())
    use = ExtendedKeyUsageOID.CLIENT_AUTH if hosts is None else ExtendedKeyUsageOID.SERVER_AUTH
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = (
        _builder(_name(f"vicinal {name}"), key, period)
        .issuer_name(ca.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(authority, critical=False)
    )
    if hosts is not None:
        builder = builder.add_extension(hosts, critical=False)
    return _Signed(builder.sign(ca.key, hashes.SHA256()), key)


def _builder(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, period: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(period[0])
        .not_valid_after(period[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            if not host or not all(part.isalnum() for part in host.replace("-", "").split(".")):
                raise InputError(f"{host[:80]!r} is no name or address of a server") from None
            if not host.isascii():
                raise InputError(f"{host[:80]!r}: give the name in ASCII (xn--…)") from None
            names.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(names)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _openssh(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def _openssh_public(key: ec.EllipticCurvePrivateKey) -> bytes:
    public = key.public_key()
    form = serialization.PublicFormat.OpenSSH
    return public.public_bytes(serialization.Encoding.OpenSSH, form) + b"\n"


def _write(path: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, mode), "wb") as opened:
        opened.write(data)
