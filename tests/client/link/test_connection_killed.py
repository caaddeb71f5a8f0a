"""A fetch from a server process that is killed half-way."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client.link.connection import Connection
from common.errors import VicinalError
from server.front.service import CHUNK_BYTES
from tests.support.serving import LARGE_ITEMS, Scene, make_scene

ROOT = Path(__file__).resolve().parents[3]
SERVER = ROOT / "tests" / "support" / "serving.py"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A version of several chunks."""
    return make_scene(tmp_path_factory.mktemp("large"), items=LARGE_ITEMS)


@pytest.fixture
def started() -> Iterator[Callable[[Path, int, float], tuple[subprocess.Popen[bytes], int]]]:
    """Starts server processes, which are gone when the test is over."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, port: int, pause: float) -> tuple[subprocess.Popen[bytes], int]:
        (folder / "ready").unlink(missing_ok=True)
        server = subprocess.Popen(
            [sys.executable, str(SERVER), str(folder), str(port), str(pause)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        servers.append(server)
        wait_for(lambda: (folder / "ready").exists() or server.poll() is not None)
        return server, int((folder / "ready").read_text())

    yield start
    for server in servers:
        server.kill()
        server.wait()


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_fetch_survives_a_server_that_is_killed_and_comes_back(
    tmp_path: Path,
    large: Scene,
    started: Callable[[Path, int, float], tuple[subprocess.Popen[bytes], int]],
) -> None:
    server, port = started(tmp_path, 0, 0.3)
    with Connection(f"127.0.0.1:{port}", patience=60) as connection, ThreadPoolExecutor(1) as pool:
        description = connection.describe()
        fetch = pool.submit(connection.fetch_model, description)
        wait_for(lambda: (tmp_path / "chunks").exists() and chunks_sent(tmp_path) >= 3)
        server.kill()
        server.wait()
        started(tmp_path, port, 0.0)
        fetched = fetch.result(timeout=60)
    assert fetched.data == large.data
    resumed = int((tmp_path / "offset").read_text())
    assert resumed >= CHUNK_BYTES, "the fetch began anew instead of where it had stopped"
    packed = {way.form: way.size for way in description.transfers}
    assert fetched.received == packed[description.version]


def chunks_sent(folder: Path) -> int:
    return int((folder / "chunks").read_text() or 0)


def test_a_server_that_is_killed_and_stays_away_ends_the_fetch(
    tmp_path: Path,
    started: Callable[[Path, int, float], tuple[subprocess.Popen[bytes], int]],
) -> None:
    server, port = started(tmp_path, 0, 0.3)
    with Connection(f"127.0.0.1:{port}", patience=1) as connection, ThreadPoolExecutor(1) as pool:
        fetch = pool.submit(connection.fetch_model, connection.describe())
        wait_for(lambda: (tmp_path / "chunks").exists() and chunks_sent(tmp_path) >= 2)
        server.kill()
        server.wait()
        with pytest.raises(VicinalError, match="no answer from a server"):
            fetch.result(timeout=30)
