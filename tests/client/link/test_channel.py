"""Encryption between real servers and devices: who is refused, and what a device says then."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.link.channel import Access, read_token
from client.link.connection import Connection
from common.errors import InputError, VicinalError
from common.tls_files import Identity
from common.wire.service import MAX_TOKEN_LENGTH
from server.front.endpoint import Listening
from server.trust.certificates import make_certificates
from server.trust.tls import Tls, checked_tls
from tests.support.serving import Endpoint, Scene, make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs") / "good"
    make_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs") / "others"
    make_certificates(folder)
    return folder


@contextmanager
def served(scene: Scene, tls: Tls | None, host: str = "127.0.0.1") -> Iterator[str]:
    with Endpoint(scene.service(), listening=Listening(host, tls)) as endpoint:
        yield endpoint.address


def tls_of(folder: Path, client_ca: Path | None = None) -> Tls:
    files = (folder / "server.pem", folder / "server.key", client_ca)
    tls = checked_tls("127.0.0.1", files, tokens=False, open_to_all=True)
    assert tls is not None
    return tls


def describes(address: str, access: Access) -> bool:
    with Connection(address, access=access) as connection:
        return connection.describe().user_count > 0


def complaint(address: str, access: Access) -> str:
    """The one line with which a device ends; it comes long before its patience is over."""
    begun = time.monotonic()
    with (
        Connection(address, access=access, patience=60) as connection,
        pytest.raises(VicinalError) as caught,
    ):
        connection.describe()
    assert time.monotonic() - begun < 30
    assert caught.value.exit_code == 1
    line = str(caught.value)
    assert line.startswith(f"server {address}: ") and "\n" not in line
    return line


def test_a_device_answers_over_tls(scene: Scene, certs: Path) -> None:
    with served(scene, tls_of(certs)) as address:
        with Connection(address, access=Access(ca=certs / "ca.pem")) as connection:
            description = connection.describe()
            assert connection.fetch_model(description).data == scene.data
            assert len(connection.recommend(description, 3, "paper")) == 10
        assert describes(address.replace("127.0.0.1", "localhost"), Access(ca=certs / "ca.pem"))


def test_a_server_with_the_wrong_certificate_is_refused(
    scene: Scene, certs: Path, others: Path
) -> None:
    with served(scene, tls_of(certs)) as address:
        line = complaint(address, Access(ca=others / "ca.pem"))
        assert "its certificate is not signed by the authority in" in line
        assert str(others / "ca.pem") in line
    with served(scene, tls_of(certs), host="127.0.0.2") as address:
        line = complaint(address, Access(ca=certs / "ca.pem"))
        assert "IP address mismatch" in line


def test_a_server_whose_certificate_expires_while_it_runs_is_refused(
    scene: Scene, tmp_path: Path
) -> None:
    make_certificates(tmp_path / "short", days=1, start=datetime.now(UTC) - timedelta(days=2))
    make_certificates(tmp_path / "long")
    access = Access(ca=tmp_path / "both.pem")
    # The authority stays valid, so that it is the server's certificate that ends.
    (tmp_path / "both.pem").write_bytes(
        (tmp_path / "short/ca.pem").read_bytes() + (tmp_path / "long/ca.pem").read_bytes()
    )
    # As if it had started before: the check of a start is left out.
    files = (tmp_path / "short" / "server.pem", tmp_path / "short" / "server.key")
    with served(scene, Tls(Identity(*(path.read_bytes() for path in files)))) as address:
        assert "its certificate is refused: certificate has expired" in complaint(address, access)


def test_a_server_whose_clock_is_ahead_of_its_devices_is_refused(
    scene: Scene, tmp_path: Path
) -> None:
    """Its certificate begins, by the device's clock, in two days."""
    early = tmp_path / "early"
    make_certificates(early, start=datetime.now(UTC) + timedelta(days=2))
    make_certificates(tmp_path / "now")
    access = Access(ca=tmp_path / "both.pem")
    both = (early / "ca.pem", tmp_path / "now" / "ca.pem")
    (tmp_path / "both.pem").write_bytes(b"".join(path.read_bytes() for path in both))
    files = (early / "server.pem", early / "server.key")
    identity = Identity(*(path.read_bytes() for path in files))
    with served(scene, Tls(identity)) as address:
        line = complaint(address, access)
    assert "its certificate is refused: certificate is not yet valid" in line


def test_mutual_tls_takes_devices_with_a_certificate_only(
    scene: Scene, certs: Path, others: Path
) -> None:
    def shown(folder: Path) -> Access:
        return Access(certs / "ca.pem", folder / "device-1.pem", folder / "device-1.key")

    with served(scene, tls_of(certs, client_ca=certs / "ca.pem")) as address:
        assert describes(address, shown(certs))
        line = complaint(address, Access(ca=certs / "ca.pem"))
        assert "it asks for a certificate: give --certificate and --key" in line
        assert "it does not take the certificate in" in complaint(address, shown(others))


def test_encryption_on_one_side_only_is_named(scene: Scene, certs: Path) -> None:
    with served(scene, None) as address:
        assert "it does not encrypt" in complaint(address, Access(ca=certs / "ca.pem"))
        assert describes(address, Access())
    with served(scene, tls_of(certs)) as address:
        assert "it encrypts: give --ca" in complaint(address, Access())
    with served(scene, tls_of(certs, client_ca=certs / "ca.pem")) as address:
        assert "it encrypts: give --ca" in complaint(address, Access())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "recommender.example", "::", "[::]"])
def test_nothing_goes_to_another_machine_in_the_clear(
    host: str, certs: Path, tmp_path: Path
) -> None:
    address = f"{host}:50551"
    (tmp_path / "token").write_text("abc.def.ghi\n")
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(InputError, match="nothing would be encrypted: give --ca"):
        Connection(address)
    for insecure in (False, True):
        with pytest.raises(InputError, match="a token must not cross a network"):
            Connection(address, access=Access(token=tmp_path / "token", insecure=insecure))
    Connection(address, access=Access(insecure=True)).close()
    Connection(address, access=Access(ca=certs / "ca.pem", token=tmp_path / "token")).close()


NO_FILES = (None, None, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "recommender.example", "::"])
def test_no_server_listens_in_the_clear_for_other_machines(host: str, certs: Path) -> None:
    files = (certs / "server.pem", certs / "server.key", None)
    for given in (NO_FILES, files):
        for open_to_all in (False, True):
            with pytest.raises(InputError, match="give --token-secret"):
                checked_tls(host, given, tokens=False, open_to_all=open_to_all)
    with pytest.raises(InputError, match="tokens must not cross a network"):
        checked_tls(host, NO_FILES, tokens=True, open_to_all=False)
    assert checked_tls(host, files, tokens=True, open_to_all=False) is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_loopback_needs_no_encryption(host: str) -> None:
    assert checked_tls(host, NO_FILES, tokens=True, open_to_all=False) is None
    assert checked_tls(host, NO_FILES, tokens=False, open_to_all=True) is None
    with pytest.raises(InputError, match="--open"):
        checked_tls(host, NO_FILES, tokens=False, open_to_all=False)
    Connection(f"{host}:50551").close()


def test_files_that_do_not_go_together_are_refused(certs: Path, tmp_path: Path) -> None:
    pem, key, ca = certs / "device-1.pem", certs / "device-1.key", certs / "ca.pem"
    cases = [
        (Access(ca=ca, certificate=pem), "give --certificate and --key together"),
        (Access(ca=ca, key=key), "give --certificate and --key together"),
        (Access(certificate=pem, key=key), "give --ca too"),
        (Access(ca=tmp_path / "no"), "cannot be read"),
        (Access(ca=ca, certificate=pem, key=certs / "device-1.pem"), "no key"),
        (Access(ca=ca, certificate=pem, key=certs / "server.key"), "is not the key of"),
    ]
    for access, message in cases:
        with pytest.raises(InputError, match=message):
            Connection("127.0.0.1:50551", access=access)
    for files in ((pem, None, None), (None, key, None), (None, None, ca)):
        with pytest.raises(InputError, match="--tls-certificate and --tls-key together"):
            checked_tls("127.0.0.1", files, tokens=False, open_to_all=True)


@pytest.mark.parametrize(
    "text", ["", "\n", "two words", "a\nb", "ümlaut", "a" * (MAX_TOKEN_LENGTH + 1)]
)
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="token") as caught:
        read_token(path)
    assert not text.strip() or text.strip() not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read as a token"):
        read_token(tmp_path / "absent")
