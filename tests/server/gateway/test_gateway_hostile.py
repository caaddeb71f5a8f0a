"""One who sends nonsense, too much, or never to the end, harms nobody else."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateways import GatewayProcess, read_all
from tests.support.serving import Endpoint, Misbehaving, make_scene

# Heads have long enough for a test on a busy machine.
HASTY = {
    "server.gateway.connections.HEAD_SECONDS": 3.0,
    "server.gateway.shield.BODY_SECONDS": 0.3,
}
HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    with (
        Endpoint(make_scene(folder).service()) as server,
        GatewayProcess(folder, server.address) as started,
    ):
        yield started
        assert started.recommend(3, preset="paper").status == 200
        assert "Traceback" not in started.log


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One that waits for nobody for long."""
    folder = tmp_path_factory.mktemp("hasty")
    with (
        Endpoint(make_scene(folder).service()) as server,
        GatewayProcess(folder, server.address, limits=HASTY) as started,
    ):
        yield started
        assert "Traceback" not in started.log


@pytest.mark.slow
def test_a_head_that_never_ends_is_ended(hasty: GatewayProcess) -> None:
    with hasty.raw() as opened:
        opened.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n")
        assert read_all(opened) == b""


@pytest.mark.slow
def test_a_second_head_that_never_ends_is_ended(hasty: GatewayProcess) -> None:
    with hasty.raw() as opened:
        opened.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert opened.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        opened.settimeout(0.05)
        ended = False
        # More bytes put nothing off.
        for _ in range(1000):
            try:
                opened.sendall(b"a")
                ended = not opened.recv(1 << 16)
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                ended = True
            if ended:
                break
    assert ended


@pytest.mark.slow
def test_a_body_that_never_ends_is_told(hasty: GatewayProcess) -> None:
    said = hasty.said(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert said.startswith(b"HTTP/1.1 408 ") and b'"REQUEST_TIMEOUT"' in said


CHUNK = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 70000\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + 3 * CHUNK,
    ],
)
def test_too_large_a_body_is_told(gateway: GatewayProcess, rest: bytes) -> None:
    said = gateway.said(HEAD + rest)
    assert said.startswith(b"HTTP/1.1 413 ") and b'"TOO_LARGE"' in said


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 5_000 + b"\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_request_is_told_once(gateway: GatewayProcess, data: bytes) -> None:
    said = gateway.said(data)
    assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 421 ", b"HTTP/1.1 431 "))
    assert said.count(b"HTTP/1.1 ") == 1 and said.endswith(b"}\n")


def test_a_smuggled_request_is_not_answered(gateway: GatewayProcess) -> None:
    inner = b"GET /v1/versions HTTP/1.1\r\nHost: localhost\r\n\r\n"
    said = gateway.said(
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner
    )
    assert said.startswith(b"HTTP/1.1 400 ") and b"publication" not in said


def test_an_upgrade_is_none(gateway: GatewayProcess) -> None:
    said = gateway.said(
        b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n"
        b"Upgrade: websocket\r\n\r\n"
    )
    assert said.startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
def test_one_who_takes_all_places_leaves_others_theirs(tmp_path: Path) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    def before() -> None:
        begun.release()
        go.wait(60)

    scene, statuses = make_scene(tmp_path), []
    with (
        Endpoint(Misbehaving(scene.service(), before=before)) as server,
        GatewayProcess(tmp_path, server.address, "--peer-calls", "3") as gateway,
    ):
        threads = [
            threading.Thread(
                target=lambda: statuses.append(gateway.recommend(3, preset="paper").status)
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert begun.acquire(timeout=60)
        refused = gateway.recommend(3, preset="paper")
        assert refused.status == 429 and refused.json["code"] == "RESOURCE_EXHAUSTED"
        assert "address" in refused.json["error"]
        go.set()
        for thread in threads:
            thread.join(60)
    assert statuses == [200, 200, 200]
