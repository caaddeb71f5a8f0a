"""A deployment of Flower on this machine: a SuperLink and SuperNodes, with TLS and a key each.

What docs/how-to/deploy-fleet.md does by hand on several machines: certificates and keys, the
SuperLink, the keys registered, the nodes, a run, and everything stopped, SuperNodes first. Nothing
is shared with another run and nothing is left, also when a part dies or the run is interrupted.
"""

import json
import os
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self, final

import tomli_w

from common.errors import VicinalError
from common.processes import ROOT
from common.text import one_line
from server.trust.certificates import make_certificates
from sims.fleet.flower import (
    environment,
    failure,
    free_port,
    printable,
    short_temporary_folder,
    stage_app,
)
from sims.processes.guard import Guard
from sims.processes.marked import stop_processes, uninterrupted

# Of the connection in Flower's config.toml.
FLEET: Final = "fleet"
START_SECONDS: Final = 60
COMMAND_SECONDS: Final = 60
# A SuperNode that has no message leaves within a second; a SuperLink takes a few.
STOP_SECONDS: Final = 8
_COMPLETED: Final = "finished:completed"


@final
class Deployment:
    """A SuperLink and its nodes; use it as a context manager, which starts and stops them.

    logs   folder that keeps superlink.log, node-0.log … and flower.log, which is what runs said
    nodes  the node config of each node, as Flower's --node-config takes it
    stock  whether the nodes are flower-supernode as it is, and not client.flower_node
    stage  makes an app folder at its second argument from `checkout`: stage_app
    """

    def __init__(
        self,
        checkout: Path,
        logs: Path,
        nodes: Sequence[str],
        *,
        stock: bool = False,
        stage: Callable[[Path, Path], Path] | None = None,
    ) -> None:
        self._checkout = checkout
        self._stage = stage or stage_app
        self._logs = logs.resolve()
        self._configs = list(nodes)
        self._stock = stock
        self._folder = Path(
            tempfile.mkdtemp(prefix="vicinal-flower-", dir=short_temporary_folder())
        )
        # Nodes find our code where this process did.
        path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
        self._environment = {**environment(self._folder), "PYTHONPATH": path}
        self._mark = f"FLWR_HOME={self._environment['FLWR_HOME']}"
        # Clears up when this process is killed.
        self._guard = Guard(self._mark, self._folder)
        self._keys = self._folder / "keys"
        self._port = free_port()
        self._parts: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def log(self) -> Path:
        """What the last run said."""
        return self._logs / "flower.log"

    def __enter__(self) -> Self:
        """Raises InputError when the checkout cannot be bundled, VicinalError when a part does not
        start.
        """
        try:
            self._app = self._stage(self._checkout, self._folder / "vicinal-app")
            self._logs.mkdir(parents=True, exist_ok=True)
            (self._folder / "empty").mkdir()
            (self._folder / "home").mkdir()
            make_certificates(self._keys, devices=0, nodes=len(self._configs), days=1)
            self._start_superlink()
            self._register()
            for node in range(len(self._configs)):
                self.start_node(node)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop()

    def start_node(self, node: int, variables: Mapping[str, str] | None = None) -> None:
        """Start a node, or start one again that has ended.

        variables  of its environment beside the deployment's
        """
        arguments = ["--superlink", f"127.0.0.1:{self._port}"]
        arguments += ["--root-certificates", str(self._keys / "ca.pem")]
        arguments += ["--auth-supernode-private-key", str(self._keys / f"node-{node}.key")]
        arguments += ["--port", str(free_port()), "--node-config", self._configs[node]]
        program = [self._program("flower-supernode")]
        if not self._stock:
            program = [sys.executable, "-m", "client.flower_node"]
        self._start(f"node-{node}", [*program, *arguments], variables=variables)

    def restart_superlink(self) -> None:
        """Start a SuperLink again that has ended; it remembers neither runs nor keys."""
        self._start_superlink()
        self._register()

    def run(
        self, run_config: Path | None, on_line: Callable[[str], None], *, whole: bool = True
    ) -> None:
        """Run the app to its end; every line that it says is kept and handed on.

        whole  whether a node that ends is the end of the run

        Raises VicinalError with the reason when the run did not complete, and as soon as the
        SuperLink ends.
        """
        arguments = ["run", str(self._app), FLEET, "--stream"]
        if run_config is not None:
            arguments += ["--run-config", str(run_config.resolve())]
        self._start("run", [self._program("flwr"), *arguments], self.log)
        done, said = 0, b""
        while True:
            ended = self._parts["run"].poll() is not None
            said = self.log.read_bytes()
            end = said.rfind(b"\n") + 1
            for line in said[done:end].decode(errors="replace").splitlines():
                on_line(printable(line))
            done = max(done, end)
            if ended:
                break
            self._require_parts(whole)
            time.sleep(0.1)
        del self._parts["run"]
        # The exit code is 0 for a failed run too.
        status = self._status()
        if status != _COMPLETED:
            reason = failure(self.log) or f"the run is {status or 'unknown to Flower'}"
            raise VicinalError(f"{reason} (log: {self.log})")

    def flwr(self, *arguments: str) -> str:
        """What a command of Flower's prints. Raises VicinalError when it fails."""
        done = subprocess.run(
            [self._program("flwr"), *arguments],
            cwd=self._folder / "empty",
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise VicinalError(f"flwr {arguments[0]}: {printable(lines[-1]).strip()}")
        return done.stdout

    def pid(self, part: str) -> int:
        """Of the process of "superlink", or of a node, "node-0"."""
        return self._parts[part].pid

    def _register(self) -> None:
        for node in range(len(self._configs)):
            self.flwr("supernode", "register", str(self._keys / f"node-{node}.pub"), FLEET)

    def _start_superlink(self) -> None:
        arguments = ["--host", "127.0.0.1", "--port", str(self._port)]
        arguments += ["--ssl-ca-certfile", str(self._keys / "ca.pem")]
        arguments += ["--ssl-certfile", str(self._keys / "server.pem")]
        arguments += ["--ssl-keyfile", str(self._keys / "server.key")]
        arguments += ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
        self._start("superlink", [self._program("flower-superlink"), *arguments])
        connection = {
            "address": f"127.0.0.1:{self._port}",
            "root-certificates": str(self._keys / "ca.pem"),
        }
        config = tomli_w.dumps({"superlink": {"default": FLEET, FLEET: connection}})
        (self._folder / "home" / "config.toml").write_text(config, encoding="utf-8")
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            self._require_parts(whole=False)
            if time.monotonic() > deadline:
                raise VicinalError(
                    f"Flower's superlink did not start (log: {self._logs / 'superlink.log'})"
                )
            time.sleep(0.1)

    def _answers(self) -> bool:
        trusted = ssl.create_default_context(cafile=str(self._keys / "ca.pem"))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        )
        try:
            with opener.open(f"https://127.0.0.1:{self._port}/health", timeout=1) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _require_parts(self, whole: bool = True) -> None:
        for name, process in self._parts.items():
            if (name == "superlink" or (whole and name != "run")) and process.poll() is not None:
                log = self._logs / f"{name}.log"
                raise VicinalError(f"Flower's {name} ended: {_last_line(log)} (log: {log})")

    def _status(self) -> str | None:
        """Status of the newest run, once it has ended or a few seconds have passed."""
        deadline = time.monotonic() + 10
        while True:
            output = self.flwr("list", FLEET, "--format", "json")
            try:
                status = str(json.loads(output[output.index("{") :])["runs"][0]["status"])
            except (ValueError, KeyError, IndexError, TypeError):
                status = None
            if (status or "").startswith("finished") or time.monotonic() > deadline:
                return status
            time.sleep(0.3)

    def _program(self, name: str) -> str:
        path = Path(sysconfig.get_path("scripts")) / name
        if not path.exists():
            raise VicinalError(f"{path} is missing: install vicinal with all of its dependencies")
        return str(path)

    def _start(
        self,
        name: str,
        command: list[str],
        log: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        with (log or self._logs / f"{name}.log").open("wb") as opened:
            self._parts[name] = subprocess.Popen(
                command,
                cwd=self._folder / "empty",
                env={**self._environment, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for us, who stop the others in order.
                start_new_session=True,
            )

    def _stop(self) -> None:
        with uninterrupted():
            superlink = self._parts.pop("superlink", None)
            _terminate(list(self._parts.values()))
            roots = [] if superlink is None or superlink.poll() is not None else [superlink.pid]
            # What is left: the SuperLink, and what any of them started.
            stop_processes(self._mark, roots, grace=STOP_SECONDS)
            for process in (*self._parts.values(), *([superlink] if superlink else [])):
                process.wait()
            self._parts.clear()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._guard.dismiss()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return one_line(lines[-1], 300) if lines else "it said nothing"


def _terminate(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """SIGTERM, and a while to leave."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue


def node_config(partition: int, partitions: int, device_ratings: Path) -> str:
    """What a node is told: which users it plays, and where their ratings are."""
    path = os.fspath(device_ratings)
    return (
        f"partition-id={partition} num-partitions={partitions} "
        f"device-ratings={json.dumps(path, ensure_ascii=False)}"
    )
