"""Certificates, tokens and limits with the commands that a newcomer would use, as processes."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import pytest

from server.trust.certificates import make_certificates
from sims.serving.process import ServeProcess
from tests.sims.commands.test_serve import DATASET, run, start
from tests.support.child_processes import children_of

pytestmark = pytest.mark.slow


class Trusted(NamedTuple):
    """A server that encrypts both ways, wants tokens and has limits; its files."""

    server: ServeProcess
    certs: Path
    secret: Path

    def device(self, users: str, token: Path | None, *more: str | Path) -> CompletedProcess[str]:
        """A device with a certificate, in a store of its own."""
        at = ("--server", self.server.address, "--ratings", self.server.ratings)
        store = ("--store", self.server.folder / f"device-{users}")
        ca = () if "--ca" in more else ("--ca", self.certs / "ca.pem")
        shown = ("--certificate", self.certs / "device-1.pem", "--key", self.certs / "device-1.key")
        given = () if token is None else ("--token", token)
        return run(
            "device",
            "--users",
            users,
            "--when-unreachable",
            "fail",
            *at,
            *store,
            *ca,
            *shown,
            *given,
            *more,
        )


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusted]:
    folder = tmp_path_factory.mktemp("trust")
    certs, secret = folder / "certs", folder / "secret"
    made = run("certs", "-o", certs, "--devices", "1")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[0] == str(certs / "ca.pem")
    keyed = run("token", "--secret", secret, "--new-key")
    assert (keyed.returncode, keyed.stdout) == (0, ""), keyed.stderr
    server = start(
        folder,
        *("--tls-certificate", str(certs / "server.pem"), "--tls-key", str(certs / "server.key")),
        *("--client-ca", str(certs / "ca.pem"), "--token-secret", str(secret)),
        *("--user-rate", "0.01", "--k", "60", "--workers", "1"),
        *("--presets", "vicinal,paper"),
    )
    yield Trusted(server, certs, secret)
    server.drain()
    output = server.log
    for hidden in (folder / "secret", *folder.glob("*.token")):
        for word in hidden.read_text().split():
            assert len(word) < 20 or word not in output


def token(trusted: Trusted, users: str, *more: str) -> Path:
    done = run("token", "--secret", trusted.secret, "--users", users, *more)
    assert done.returncode == 0, done.stderr
    path = trusted.server.folder / f"{users}.token"
    path.write_text(done.stdout)
    path.chmod(0o600)
    return path


def line(done: CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("vicinal: error: "), done.stderr
    return done.stderr


def test_a_device_with_certificate_and_token_is_answered(trusted: Trusted) -> None:
    done = trusted.device("0-4", token(trusted, "0-9"), "--preset", "paper")
    assert done.returncode == 0, done.stderr
    assert "users answered" in done.stdout


def test_without_a_token_or_with_anothers_a_device_ends_in_one_line(trusted: Trusted) -> None:
    assert "a valid bearer token is needed" in line(trusted.device("20", None), 2)
    own = token(trusted, "21")
    assert "not for this user" in line(trusted.device("22", own), 2)
    spoilt = own.with_name("spoilt.token")
    spoilt.write_text(own.read_text()[:-6] + "AAAAA\n")
    spoilt.chmod(0o600)
    assert "a valid bearer token is needed" in line(trusted.device("21", spoilt), 2)
    brief = token(trusted, "23", "--days", "0.00001")
    time.sleep(1)
    assert "a valid bearer token is needed" in line(trusted.device("23", brief), 2)


def test_a_device_says_soon_why_it_does_not_trust_the_server(
    trusted: Trusted, tmp_path: Path
) -> None:
    assert run("certs", "-o", tmp_path / "others").returncode == 0
    begun = time.monotonic()
    other = trusted.device("30", None, "--ca", tmp_path / "others" / "ca.pem")
    assert "is not signed by the authority in" in line(other, 1)
    assert time.monotonic() - begun < 60
    plain = ("--server", trusted.server.address, "--ratings", trusted.server.ratings)
    assert "it encrypts: give --ca" in line(run("device", "--users", "30", *plain), 1)


def test_limits_survive_the_worker(trusted: Trusted) -> None:
    own = token(trusted, "50")
    assert trusted.device("50", own, "--preset", "paper").returncode == 0
    [worker] = children_of(trusted.server.pid, "server.workers.worker")
    os.kill(worker, signal.SIGKILL)
    done = trusted.device("50", own, "--preset", "paper")
    assert "too many calls for this user" in line(done, 1)


def test_what_cannot_be_served_safely_ends_in_one_line_before_any_training(tmp_path: Path) -> None:
    good, old = tmp_path / "good", tmp_path / "old"
    make_certificates(good)
    make_certificates(old, days=1, start=datetime.now(UTC) - timedelta(days=2))
    make_certificates(tmp_path / "others")
    (tmp_path / "secret").write_text("short\n")
    pair = ("--tls-certificate", good / "server.pem", "--tls-key")
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        ((), "or --open for everybody's"),
        (("--host", "0.0.0.0"), "give --token-secret"),
        (("--host", "0.0.0.0", "--open"), "give --token-secret"),
        (("--host", "192.0.2.7", "--client-ca", good / "ca.pem"), "--tls-key together"),
        ((*pair, tmp_path / "others" / "server.key"), "is not the key of"),
        ((*pair, tmp_path / "absent"), "cannot be read (No such file"),
        (
            ("--tls-certificate", old / "server.pem", "--tls-key", old / "server.key"),
            "certificate has expired",
        ),
        ((*pair, good / "server.key", "--client-ca", old / "ca.pem"), "has expired"),
        (("--token-secret", tmp_path / "secret"), "line 1: give a key"),
        (("--token-secret", tmp_path / "absent"), "--new-key"),
        (("--token-secret", tmp_path / "keys", "--open"), "not both"),
        (("--user-rate", "0"), "--user-rate"),
        (("--daily-neighbors", "0"), "--daily-neighbors"),
    ]
    run("token", "--secret", tmp_path / "keys", "--new-key")
    store = ("--store", tmp_path / "store", "--port", "0")
    for arguments, text in cases:
        assert text in line(run("serve", "--dataset", DATASET, *store, *arguments), 2)
    assert not (tmp_path / "store").exists()
    tokens = ("--token-secret", tmp_path / "keys", "--host", "0.0.0.0")
    assert "tokens must not cross" in line(run("serve", "--dataset", DATASET, *store, *tokens), 2)


def test_token_and_certs_refuse_what_makes_no_sense(tmp_path: Path) -> None:
    secret = ("--secret", tmp_path / "secret")
    assert "--new-key" in line(run("token", *secret, "--user", "7"), 2)
    assert run("token", *secret, "--new-key").returncode == 0
    for wrong in ((), ("--user", "1", "--users", "1-2"), ("--users", "9-1"), ("--days", "0")):
        line(run("token", *secret, *wrong), 2)
    assert run("certs", "-o", tmp_path / "certs").returncode == 0
    assert "is there already" in line(run("certs", "-o", tmp_path / "certs"), 2)
