"""`vicinal gateway` on the command line: what it refuses, and how other machines reach it."""

import http.client
import json
import secrets
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest

from server.front.endpoint import Listening
from server.trust.certificates import make_certificates
from server.trust.tls import checked_tls
from server.trust.tokens import TokenKeys
from sims.cli import run
from sims.processes.children import Children
from sims.serving.process import ServeProcess
from tests.support.gates import make_gate
from tests.support.gateways import GatewayProcess
from tests.support.serving import Endpoint, make_scene

KEYS = TokenKeys({"a": secrets.token_hex(32)})


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    assert run(["gateway", *arguments]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("vicinal: error: ")
    return said


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--server", "nowhere"], "is no server"),
        (["--host", "0.0.0.0"], "give --tls-certificate and --tls-key"),
        (["--tls-key", "a.key"], "give --tls-certificate and --tls-key together"),
        (["--allow-origin", "*"], "--allow-origin '*'"),
        (["--allow-origin", "https://a.example/path"], "give a scheme and a host"),
        (["--server", "10.0.0.1:1"], "nothing would be encrypted"),
        (["--port", "70000"], "70000"),
        (["--ids", "/nowhere/ids.csv"], "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with Endpoint(make_scene(tmp_path).service()) as server:
        given = ["--port", "0", *([] if "--server" in arguments else ["--server", server.address])]
        assert text in refused([*given, *arguments], capsys)


def test_a_server_that_gives_books_is_none_for_a_gateway(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with Endpoint(make_scene(tmp_path, release="book").service()) as server:
        said = refused(["--port", "0", "--server", server.address], capsys)
    assert "gives out a book" in said and "--release rows" in said


def test_a_port_in_use_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "is in use" in refused(["--port", port], capsys)


@pytest.mark.slow
def test_without_a_server_it_ends_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = refused(["--server", f"127.0.0.1:{port}", "--port", "0"], capsys, 1)
    assert "start `vicinal serve`" in said


@pytest.mark.slow
def test_other_machines_need_tokens_and_encryption_on_both_sides(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    pem, key, ca = tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem"
    shown = ("--tls-certificate", str(pem), "--tls-key", str(key))
    scene = make_scene(tmp_path)
    with (
        Endpoint(scene.service()) as server,
        pytest.raises(AssertionError, match="it would give anybody's"),
        GatewayProcess(tmp_path, server.address, "--host", "0.0.0.0", *shown),
    ):
        pass
    tls = checked_tls("127.0.0.1", (pem, key, ca), tokens=True, open_to_all=False)
    gates = [make_gate(scene, KEYS)]
    device = (
        "--certificate",
        str(tmp_path / "device-1.pem"),
        "--key",
        str(tmp_path / "device-1.key"),
    )
    with (
        Endpoint(scene.service(), listening=Listening(tls=tls), gates=gates) as server,
        GatewayProcess(
            tmp_path, server.address, "--host", "0.0.0.0", *shown, "--ca", str(ca), *device
        ) as gateway,
    ):
        trusted = ssl.create_default_context(cafile=str(ca))
        connection = http.client.HTTPSConnection("127.0.0.1", gateway.port, context=trusted)
        body, token = json.dumps({"user": 3, "preset": "paper"}), KEYS.token(range(5), days=1)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/recommend", body, headers)
        assert connection.getresponse().status == 200
        connection.close()
        # In the clear nobody is answered.
        assert (
            b"200" not in gateway.said(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")[:20]
        )
        assert gateway.drain() == 0


def crowd(first: int, last: int) -> str:
    """Users with ids; each rates some items of twenty."""
    return "".join(
        f"u{user},b{item},{1 + (user + item) % 5}\n"
        for user in range(first, last)
        for item in range(20)
        if (user * 7 + item * 3) % 4 < 2
    )


@pytest.mark.slow
def test_each_version_is_looked_at_and_new_accounts_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("user,item,rating\n" + crowd(0, 60))
    arguments = (
        *("--dataset", str(file), "--workers", "1", "--metrics-port", "0"),
        *("--targets", "id:b1", "--hold-out", "--survey", "20", "--list-length", "5"),
    )
    with (
        Children(tmp_path) as children,
        ServeProcess(children, tmp_path, arguments) as server,
    ):

        def surveys() -> dict[str, dict[str, float]]:
            found: dict[str, dict[str, float]] = {}
            for line in server.metrics().splitlines():
                if line.startswith("vicinal_survey{"):
                    about, value = line.rsplit(" ", 1)
                    labels = dict(part.split("=", 1) for part in about[15:-1].split(","))
                    what, version = labels["what"].strip('"'), labels["version"].strip('"')
                    found.setdefault(version, {})[what] = float(value)
            return found

        (first,) = surveys().values()
        assert (first["users"], first["new_accounts"]) == (20, 0)
        assert first["eligible"] > 0 and first["held_out"] == 20
        with file.open("a") as opened:
            opened.write(crowd(60, 75))
        server.child.signal(signal.SIGHUP)
        deadline = time.monotonic() + 120
        while len(found := surveys()) < 2:
            assert "retrain:" not in server.log and time.monotonic() < deadline, server.log
            time.sleep(0.1)
        later = [each for each in found.values() if each["new_accounts"]]
        assert [each["new_accounts"] for each in later] == [15 / 75]
        assert 0 <= later[0]["new_neighbors"] <= 1
