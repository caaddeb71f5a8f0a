"""Gateway processes in tests, and requests to them, also such as no client would send."""

import http.client
import json
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, final

from common.ids import Names, map_csv
from server.trust.tokens import TokenKeys
from tests.support.scenes import ITEMS, USERS, Scene
from tests.support.serving import Endpoint

KEYS = TokenKeys({"a": secrets.token_hex(32)})
OWN = KEYS.token(range(10), days=1)
HOSTILE = '<img src=x onerror="window.hacked=1">'
HOSTILE_ID = '"><script>window.hacked=1</script>'
# Items 3 and 17 are watched.
ITEM_IDS = tuple(HOSTILE_ID if index == 17 else f"b{index}" for index in range(ITEMS))
TITLES = tuple(
    HOSTILE if index == 3 else f"Title {index}" if index < ITEMS - 1 else None
    for index in range(ITEMS)
)
ROOT = Path(__file__).resolve().parents[2]
# Sets names of modules first, so that a test of a limit does not have to wait for it.
_RUN = """
import importlib, json, sys
for name, value in json.loads(sys.argv[1]).items():
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute), name
    setattr(importlib.import_module(module), attribute, value)
from sims.cli import run
sys.exit(run(sys.argv[2:]))
"""


class Reply(NamedTuple):
    """What came back; headers by their lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@final
class GatewayProcess:
    """`vicinal gateway` while the block runs.

    limits  of modules, by dotted name, that are set before it starts
    """

    def __init__(
        self,
        folder: Path,
        server: str,
        *arguments: str,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self._port_file = folder / "gateway-port"
        self._log = folder / "gateway.log"
        self._arguments = ("--server", server, *arguments)
        self._limits = json.dumps(dict(limits or {}))
        self.port = 0

    def __enter__(self) -> Self:
        self._port_file.unlink(missing_ok=True)
        own = ("gateway", "--port", "0", "--port-file", str(self._port_file))
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RUN, self._limits, *own, *self._arguments],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        while not self._port_file.exists():
            if self.process.poll() is not None:
                raise AssertionError(self.log)
            time.sleep(0.02)
        self.port = int(self._port_file.read_text())
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def drain(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; a body that is no bytes is sent as JSON."""
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, told, answer.read())
        finally:
            connection.close()

    def recommend(self, user: object, *, token: str | None = None, **more: object) -> Reply:
        return self.ask("POST", "/v1/recommend", {"user": user, **more}, token=token)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def said(self, data: bytes) -> bytes:
        """What comes back of some bytes, until the gateway ends the connection."""
        with self.raw() as opened:
            opened.sendall(data)
            return read_all(opened)


def read_all(opened: socket.socket) -> bytes:
    """Until the other side ends it, however it does."""
    said = b""
    try:
        while part := opened.recv(1 << 16):
            said += part
    except ConnectionResetError:
        pass
    return said


@dataclass(frozen=True)
class Pair:
    """A server and a gateway before it."""

    scene: Scene
    server: Endpoint
    gateway: GatewayProcess


def write_ids(path: Path, users: int = USERS) -> Path:
    """A map of named(), with titles; one of them, and one of the ids, would like to be markup."""
    items = Names(ITEM_IDS, TITLES)
    people = Names(tuple(f"u/{index}" for index in range(users)))
    path.write_text(map_csv(items, ITEMS, people, users))
    return path


def named(scene: Scene) -> Scene:
    """The same with ids, so that maps of them fit."""
    ratings = scene.recommender.ratings
    object.__setattr__(ratings, "item_ids", ITEM_IDS)
    fakes = ratings.user_count - USERS
    users = (*(f"u/{index}" for index in range(USERS)), *(f"fake{n}" for n in range(fakes)))
    object.__setattr__(ratings, "user_ids", users)
    return scene


def error(reply: Reply) -> tuple[int, str]:
    """The status and the code of an error, which is one line of JSON."""
    assert reply.headers["content-type"] == "application/json"
    assert reply.body.endswith(b"}\n") and reply.body.count(b"\n") == 1
    assert set(reply.json) <= {"status", "code", "error", "retry_after_ms"}
    assert reply.json["status"] == reply.status and reply.json["error"].isprintable()
    return reply.status, reply.json["code"]
