"""Certificates for development, and the checks that all certificate files pass."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.cli.supernode.register import try_load_public_key
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from common.errors import InputError
from common.tls_files import read_authority, read_identity
from server.trust.certificates import make_certificates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certs") / "made"
    make_certificates(made, hosts=["recommender.example", "192.0.2.7"], devices=2)
    return made


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certs") / "expired"
    make_certificates(made, days=10, start=datetime.now(UTC) - timedelta(days=11))
    return made


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certs") / "early"
    make_certificates(made, start=datetime.now(UTC) + timedelta(days=2))
    return made


def test_what_is_made_can_be_used(folder: Path) -> None:
    names = {"ca", "server", "device-1", "device-2"}
    assert {path.stem for path in folder.iterdir()} == names
    assert {path.suffix for path in folder.iterdir()} == {".pem", ".key"}
    assert read_authority(folder / "ca.pem") == (folder / "ca.pem").read_bytes()
    for name, role in (("server", "server"), ("device-1", "device"), ("device-2", "device")):
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        identity = read_identity(certificate, key, role)  # type: ignore[arg-type]  # a literal
        assert identity == (certificate.read_bytes(), key.read_bytes())


def test_keys_are_private_and_nothing_is_overwritten(folder: Path) -> None:
    for path in folder.glob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"ca.pem is there already: choose another folder"):
        make_certificates(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("host", ["", "a b", "a/b", "ünder.example", "a..b"])
def test_a_host_that_no_certificate_holds_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(InputError, match="name"):
        make_certificates(tmp_path / "certs", hosts=[host])
    assert not (tmp_path / "certs").exists()


def encrypted(source: Path, target: Path) -> Path:
    key = serialization.load_pem_private_key(source.read_bytes(), None)
    target.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return target


def test_a_pair_that_cannot_be_shown_is_refused_in_words(
    folder: Path, expired: Path, early: Path, tmp_path: Path
) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(b"noise")
    locked = encrypted(folder / "server.key", tmp_path / "locked.key")
    cases: list[tuple[Path, Path, str]] = [
        (tmp_path / "no.pem", folder / "server.key", r"no\.pem: cannot be read \(No such file"),
        (folder / "server.pem", tmp_path / "no.key", r"no\.key: cannot be read \(No such file"),
        (tmp_path, folder / "server.key", r"cannot be read \(Is a directory"),
        (noise, folder / "server.key", "noise: holds no certificate"),
        (folder / "server.pem", noise, "or .*noise no key"),
        (folder / "server.pem", folder / "ca.key", r"ca\.key: is not the key of .*server\.pem"),
        (folder / "server.pem", locked, r"locked\.key: is encrypted: give a key without"),
        (expired / "server.pem", expired / "server.key", r"server\.pem: certificate has expired"),
        (early / "server.pem", early / "server.key", r"server\.pem: certificate is not yet valid"),
        (folder / "device-1.pem", folder / "device-1.key", r"purpose"),
    ]
    for certificate, key, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            read_identity(certificate, key, "server")
        assert "\n" not in str(caught.value)
    device: Callable[[Path], object] = lambda made: read_identity(  # noqa: E731
        made / "device-1.pem", made / "device-1.key", "device"
    )
    for made, message in ((expired, "has expired"), (early, "is not yet valid")):
        with pytest.raises(InputError, match=rf"device-1\.pem: certificate {message}"):
            device(made)
    with pytest.raises(InputError, match="purpose"):
        read_identity(folder / "server.pem", folder / "server.key", "device")


def test_an_authority_is_checked(folder: Path, expired: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"noise")
    cases = [
        (tmp_path / "no", r"cannot be read \(No such file"),
        (tmp_path / "noise", "holds no certificate"),
        (folder / "server.key", "holds no certificate"),
        (folder / "server.pem", "holds no certificate of an authority"),
        (expired / "ca.pem", "certificate has expired"),
    ]
    for path, message in cases:
        with pytest.raises(InputError, match=message):
            read_authority(path)
    (tmp_path / "both").write_bytes(
        (expired / "ca.pem").read_bytes() + (folder / "ca.pem").read_bytes()
    )
    read_authority(tmp_path / "both")


def test_keys_of_nodes_are_what_flower_takes(tmp_path: Path) -> None:
    paths = make_certificates(tmp_path / "keys", devices=0, nodes=2)
    assert [path.name for path in paths[-4:]] == [
        "node-0.key",
        "node-0.pub",
        "node-1.key",
        "node-1.pub",
    ]
    found = set()
    for node in range(2):
        path = tmp_path / "keys" / f"node-{node}.key"
        assert path.stat().st_mode & 0o077 == 0
        private = serialization.load_ssh_private_key(path.read_bytes(), None)
        public = try_load_public_key(path.with_suffix(".pub"))
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        assert private.curve.name == "secp384r1"
        assert public == public_key_to_bytes(private.public_key())
        found.add(public)
    assert len(found) == 2
    with pytest.raises(InputError, match=r"node-1\.pub is there already"):
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "node-1.pub").touch()
        make_certificates(tmp_path / "more", devices=0, nodes=2)
    assert [path.name for path in (tmp_path / "more").iterdir()] == ["node-1.pub"]
