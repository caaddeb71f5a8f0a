"""Real servers of MLflow and TensorBoard on loopback, and what they hold, asked by HTTP."""

import fcntl
import json
import os
import select
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, final

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The whole of it: what vicinal installs is its client alone (docs/decisions/0039-tracking.md).
MLFLOW = "mlflow==3.17.2"
START_SECONDS = 240
# Of an environment: a few seconds where uv has the packages already.
INSTALL_SECONDS = 900


def mlflow_program() -> Path:
    """`mlflow` of an environment of its own below build/, which the first to ask makes.

    Skips where it cannot be had, as without a network; fails where CI is set.
    """
    folder = ROOT / "build" / MLFLOW.replace("==", "-")
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv = [sys.executable, "-m", "uv"]
            python = str(folder / "bin" / "python")
            for command in (
                [*uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
                [*uv, "pip", "install", "--quiet", "--python", python, MLFLOW],
            ):
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
                )
                if done.returncode:
                    told = f"{MLFLOW} cannot be had: {done.stderr.strip()[-300:]}"
                    pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
            (folder / "whole").touch()
    return folder / "bin" / "mlflow"


@contextmanager
def served(command: Sequence[str], port: int, path: str, folder: Path) -> Iterator[str]:
    """A server while the block runs: its address, once it answers a path."""
    address = f"http://127.0.0.1:{port}"
    log = folder / "server.log"
    environment = {**os.environ, "HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    # Processes in sessions of their own, for what is not used here.
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with log.open("wb") as opened:
        # Its workers are stopped with it: they are in its session.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=opened,
            stderr=opened,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
            try:
                fetched(f"{address}{path}")
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    port = free_port()
    command = [str(mlflow_program()), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with served(command, port, "/health", folder) as address:
        yield address


@contextmanager
def tensorboard_server(logs: Path, folder: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--load_fast", "false"]
    with served(command, port, "/data/environment", folder) as address:
        yield address


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        return port


def fetched(address: str, body: Any = None) -> bytes:
    """Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        given: bytes = answer.read()
        return given


def asked(address: str, path: str, **words: Any) -> Any:
    """JSON of a GET."""
    query = urllib.parse.urlencode(words)
    return json.loads(fetched(f"{address}{path}{'?' + query if query else ''}"))


def runs_on(address: str, experiment: str) -> list[Any]:
    """All runs of an experiment of MLflow, by its REST API."""
    api = f"{address}/api/2.0/mlflow"
    found = asked(api, "/experiments/get-by-name", experiment_name=experiment)
    wanted = {"experiment_ids": [found["experiment"]["experiment_id"]], "max_results": 1000}
    told = json.loads(fetched(f"{api}/runs/search", wanted))
    return list(told.get("runs", []))


def pairs_of(run: Any, kind: str) -> dict[str, Any]:
    """params, metrics (the latest) or tags of a run."""
    return {one["key"]: one["value"] for one in run["data"].get(kind, [])}


@final
class Relay:
    """A way to a server that ends for good once something is asked so often.

    cut_at  bytes of a request that end it, when they come for the `after`-th time
    """

    def __init__(self, address: str, cut_at: bytes, after: int = 1) -> None:
        self._target = ("127.0.0.1", int(address.rpartition(":")[2]))
        self._cut_at, self._left = cut_at, after
        self._gone = threading.Event()
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                relay.carry(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def gone(self) -> bool:
        return self._gone.is_set()

    def carry(self, here: socket.socket) -> None:
        if self._gone.is_set():
            return
        with socket.create_connection(self._target) as there:
            while not self._gone.is_set():
                ready, _, _ = select.select([here, there], [], [], 0.1)
                for one in ready:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    if one is here and self._cut_at in data:
                        self._left -= 1
                        if not self._left:
                            self._gone.set()
                            return
                    (there if one is here else here).sendall(data)
