"""A local Flower of its own for one run: nothing shared with another, nothing left behind.

Flower 1.41 starts a local SuperLink that outlives the run, works where it first started and
is found by its port. So here it is started by hand: from an empty folder, with its own home,
ports and temporary folder, and with an environment by which all of its processes are found
and stopped. docs/how-to/flower.md says what each setting is for.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Final, Self, final

import tomli_w

from common.errors import InputError, VicinalError
from common.processes import ROOT
from server import kept_loops
from sims.fleet.resources import Resources
from sims.processes.guard import Guard
from sims.processes.marked import stop_processes, uninterrupted

PACKAGES: Final = ("common", "server", "client", "sims")
START_SECONDS: Final = 60
# A SuperLink that ended its runs leaves within a second; Ray takes a few more.
STOP_SECONDS: Final = 10
# What a terminal is told by: colors, and where to write next.
_COLORS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NO_PLACE: Final = (
    "no client fits on this machine: give fewer --cpus and --num-gpus per client, "
    "or more --processes"
)


@final
class LocalFlower:
    """A SuperLink for simulations; use it as a context manager, which stops it.

    logs       folder that keeps flower.log (what the runs said) and superlink.log
    resources  what its clients may take, and of which cluster
    stage      makes an app folder at its second argument from `checkout`: stage_app
    """

    def __init__(
        self,
        checkout: Path,
        logs: Path,
        resources: Resources,
        *,
        stage: Callable[[Path, Path], Path] | None = None,
    ) -> None:
        self.log = logs / "flower.log"
        self._superlink_log = logs / "superlink.log"
        self._checkout = checkout
        self._stage = stage or stage_app
        # Ray puts sockets below it, and a socket's path must be short.
        self._folder = Path(
            tempfile.mkdtemp(prefix="vicinal-flower-", dir=short_temporary_folder())
        )
        self._resources = resources
        self._environment = {**environment(self._folder), **resources.environment()}
        self._mark = f"FLWR_HOME={self._environment['FLWR_HOME']}"
        self._guard = Guard(self._mark, self._folder)
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        """Raises InputError when the checkout cannot be bundled, VicinalError when Flower does
        not start.
        """
        try:
            self._app = self._stage(self._checkout, self._folder / "vicinal-app")
            self.log.parent.mkdir(parents=True, exist_ok=True)
            (self._folder / "empty").mkdir()
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop()

    def run(
        self,
        run_config: Path,
        *,
        clients: int,
        on_line: Callable[[str], None],
        done: Callable[[], bool],
    ) -> None:
        """Run the app to its end with `clients` virtual clients.

        Every line of the run's log is kept and handed on without colors. `done` says whether the
        app has done its work; if not, Flower is asked what became of it, which takes seconds.
        Raises VicinalError with the reason and the log's path when the run did not complete.
        """
        arguments = ["run", str(self._app), "--stream", "--run-config", str(run_config)]
        with self.log.open("w", encoding="utf-8") as log:
            program = self._spawn(
                "flwr", *arguments, "--federation-config", self._resources.federation(clients)
            )
            for line in self._lines(program):
                plain = printable(line)
                log.write(f"{plain}\n")
                log.flush()
                on_line(plain)
        # The exit code is 0 for a failed run too.
        if done():
            return
        status = self._status()
        if status != "finished:completed":
            reason = failure(self.log) or f"the run is {status or 'unknown to Flower'}"
            raise VicinalError(f"{reason} (log: {self.log})")

    def _start(self) -> None:
        port = self._environment["FLWR_LOCAL_SUPERLINK_HTTP_API_PORT"]
        control = self._environment["FLWR_LOCAL_CONTROL_API_PORT"]
        arguments = ["--insecure", "--simulation", "--isolation", "subprocess"]
        arguments += ["--host", "127.0.0.1", "--port", port]
        arguments += ["--control-api-address", f"127.0.0.1:{control}"]
        with self._superlink_log.open("w", encoding="utf-8") as log:
            superlink = self._spawn("flower-superlink", *arguments, output=log)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/health"):
            if superlink.poll() is not None or time.monotonic() > deadline:
                raise VicinalError(f"Flower's SuperLink did not start (log: {self._superlink_log})")
            time.sleep(0.1)

    def _spawn(
        self, program: str, *arguments: str, output: IO[str] | int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        path = Path(sysconfig.get_path("scripts")) / program
        if not path.exists():
            raise VicinalError(f"{path} is missing: install vicinal with all of its dependencies")
        process = subprocess.Popen(
            [str(path), *arguments],
            cwd=self._folder / "empty",
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C in the terminal is for us, who stop the others in order.
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def _lines(self, program: subprocess.Popen[str]) -> Iterator[str]:
        """Lines of output until the program ends. Raises VicinalError if the SuperLink dies."""
        lines: Queue[str | None] = Queue()
        superlink, output = self._started[0], program.stdout
        assert output is not None

        def read() -> None:
            with suppress(ValueError):  # closed while we stop
                for line in output:
                    lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=1)
            except Empty:
                if superlink.poll() is not None:
                    raise VicinalError(
                        f"Flower's SuperLink ended during the run (log: {self._superlink_log})"
                    ) from None
                continue
            if line is None:
                return
            yield line

    def _status(self) -> str | None:
        """Status of the one run, once it has ended or a few seconds have passed."""
        deadline = time.monotonic() + 10
        while True:
            status = None
            program = self._spawn("flwr", "list", "--format", "json")
            output, _ = program.communicate(timeout=START_SECONDS)
            with suppress(ValueError, KeyError, IndexError, TypeError):
                status = str(json.loads(output[output.index("{") :])["runs"][0]["status"])
            if (status or "").startswith("finished") or time.monotonic() > deadline:
                return status
            time.sleep(0.5)

    def _stop(self) -> None:
        with uninterrupted():
            roots = [process.pid for process in self._started if process.poll() is None]
            stop_processes(self._mark, roots, grace=STOP_SECONDS)
            for process in self._started:
                process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._guard.dismiss()


def stage_app(checkout: Path, folder: Path) -> Path:
    """Copy what Flower bundles from a checkout into a folder with a name that Flower accepts.

    Raises InputError when this is no checkout: pip installs no pyproject.toml.
    """
    project = checkout / "pyproject.toml"
    if not project.is_file():
        raise InputError(
            f"{checkout} holds no pyproject.toml, which Flower needs: "
            "run from a checkout that was installed with `make install`"
        )
    settings = tomllib.loads(project.read_text(encoding="utf-8"))
    # It names what is not copied, which Flower would refuse.
    excluded = tuple(settings["tool"]["flwr"]["app"].pop("fab-exclude", ()))
    staged = {"project": settings["project"], "tool": {"flwr": settings["tool"]["flwr"]}}
    staged["project"].pop("readme", None)
    staged["project"].pop("license-files", None)
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(tomli_w.dumps(staged), encoding="utf-8")
    for package in PACKAGES:
        for source in (checkout / package).rglob("*.py"):
            name = source.relative_to(checkout)
            if name.as_posix().startswith(excluded):
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return folder


def failure(log: Path) -> str | None:
    """The last reason of ours in a run's log, or one of Flower's that is known."""
    text = log.read_text(encoding="utf-8", errors="replace")
    reasons = re.findall(r"common\.errors\.(?:Vicinal|Input)Error: (.+)", text)
    if reasons:
        return str(reasons[-1]).strip()
    return NO_PLACE if "ActorPool is empty" in text else None


def printable(line: str) -> str:
    """A line of Flower's or Ray's without colors, and without what else moves a terminal."""
    text = _COLORS.sub("", line).rstrip().expandtabs()
    return "".join(each for each in text if each.isprintable())


def environment(folder: Path) -> dict[str, str]:
    """Of all of Flower's programs of one run: nothing shared, nothing fetched, nothing told."""
    scripts = sysconfig.get_path("scripts")
    # A cluster of Ray's is only used where it is asked for.
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {
        **inherited,
        # Flower starts its own programs by name.
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_HOME": str(folder / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
        "RAY_TMPDIR": str(folder / "r"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
        **kept_loops.environment(Path(ROOT)),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def short_temporary_folder() -> str:
    """Where a socket's path stays short enough."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 20 else "/tmp"


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    # A proxy that the environment names cannot reach this machine's own ports.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
