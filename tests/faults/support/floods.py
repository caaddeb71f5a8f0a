"""What one caller who wants everything does to others: python -m tests.faults.support.floods.

A real `vicinal serve` with two workers and tokens. Devices in a process of their own ask for
packages all the time, each with a connection and a token of its own; first alone, then beside an
attacker (tests.faults.support.attacker) that is new in each part.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Annotated, Final

import typer

from client.link.channel import Access
from client.link.connection import Connection
from client.stores.ratings import read_local_ratings
from common.errors import VicinalError
from common.processes import process_status
from common.threads import limit_threads
from server.trust.tokens import read_token_keys
from tests.faults.support.attacker import FLOODS
from tests.faults.support.figures import percentile
from tests.faults.support.served import ServedProcess
from tests.support.modules import ENVIRONMENT, ROOT, command

DATASET: Final = "synthetic:320x1500"
DEVICES: Final = 4
# Between calls of a device, which would fine-tune meanwhile.
PAUSE_SECONDS: Final = 0.1
# The attacker's users come before the devices'.
FIRST_USER: Final = 100
ATTACKERS_USERS: Final = range(10)
ELSEWHERE: Final = "127.0.0.2"
HERE: Final = "127.0.0.1"
# What must hold beside an attacker, against the quiet time before. Below so many seconds a
# difference is the scheduler's.
MOST_TIMES: Final = 3.0
LEAST_SECONDS: Final = 0.05
MOST_MEMORY: Final = 1.5


@dataclass(frozen=True)
class Part:
    """How devices fared in one part: what they waited for packages, and what failed.

    memory   of the front, in MiB, at most; busy: its share of one core
    refused  by the server, by reason
    """

    name: str
    seconds: list[float]
    failed: list[str]
    memory: float
    busy: float
    refused: dict[str, int]

    @property
    def p50(self) -> float:
        return percentile(self.seconds, 0.5)

    @property
    def p99(self) -> float:
        return percentile(self.seconds, 0.99)

    def good(self, quiet: "Part") -> bool:
        slowest = MOST_TIMES * max(quiet.p99, LEAST_SECONDS)
        enough = len(self.seconds) > 0 and self.p99 <= slowest
        return enough and not self.failed and self.memory <= MOST_MEMORY * quiet.memory


@contextmanager
def attacked(
    server: ServedProcess, flood: str, source: str = ELSEWHERE, *, token: str = "", version: str
) -> Iterator[None]:
    """While an attacker's process floods a server."""
    given = (flood, server.address, source, str(server.metrics_port), token, version)
    process = subprocess.Popen(
        command("tests.faults.support.attacker", *given),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
        assert process.poll() is None, process.communicate()[1]
    finally:
        process.kill()
        process.communicate()


class Flooded:
    """A server that asks for tokens, and devices that ask it; a context manager."""

    def __init__(self, folder: Path, more: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        secret = folder / "secret"
        subprocess.run(
            command("sims.cli", "token", "--secret", str(secret), "--new-key"), cwd=ROOT, check=True
        )
        self._keys = read_token_keys(secret)
        arguments = ("--dataset", DATASET, "--workers", "2", "--token-secret", str(secret), *more)
        self.server = ServedProcess(folder / "server", arguments)

    def __enter__(self) -> "Flooded":
        self.server.__enter__()
        with Connection(self.server.address, patience=60) as connection:
            self._version = connection.describe().version
        users = range(FIRST_USER, FIRST_USER + DEVICES)
        self._local = read_local_ratings(self.server.ratings, users)
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(*error)

    def part(
        self, name: str, seconds: float, flood: str | None = None, source: str = ELSEWHERE
    ) -> Part:
        """Let devices ask for so many seconds, beside an attacker if there is to be one."""
        before = self._refused()
        with self._attacker(flood, source):
            # The attack is under way, and devices that begin in it are served too.
            time.sleep(2.0 if flood else 0.0)
            tokens = [self._token(FIRST_USER + place) for place in range(DEVICES)]
            found: list[float] = []
            failed: list[str] = []
            memory, over = [self.server.resident_mib()], Event()

            def watch() -> None:
                while not over.wait(0.1):
                    memory.append(self.server.resident_mib())

            begun, spent = time.monotonic(), process_status(self.server.pid).seconds
            watching = Thread(target=watch)
            watching.start()
            threads = [
                Thread(target=self._device, args=(place, token, seconds, found, failed))
                for place, token in enumerate(tokens)
            ]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            over.set()
            watching.join()
            busy = (process_status(self.server.pid).seconds - spent) / (time.monotonic() - begun)
        after = self._refused()
        refused = {key: after[key] - before.get(key, 0) for key in after}
        refused = {key: one for key, one in refused.items() if one}
        return Part(name, found, failed, max(memory), busy, refused)

    def threads(self) -> int:
        """Of the process that listens."""
        return len(list(Path(f"/proc/{self.server.pid}/task").iterdir()))

    def _device(
        self, place: int, token: Path, seconds: float, found: list[float], failed: list[str]
    ) -> None:
        user, end = FIRST_USER + place, time.monotonic() + seconds
        own = self._local.own(user)
        with Connection(self.server.address, access=Access(token=token)) as connection:
            description = None
            while time.monotonic() < end:
                begun = time.monotonic()
                try:
                    if description is None:
                        description = connection.describe()
                    connection.package(description, user, "vicinal", own)
                except VicinalError as error:
                    failed.append(str(error))
                found.append(time.monotonic() - begun)
                time.sleep(PAUSE_SECONDS)

    def _token(self, user: int) -> Path:
        path = self._folder / f"{user}.token"
        path.touch(0o600)
        path.write_text(self._keys.token(range(user, user + 1), days=1) + "\n")
        return path

    @contextmanager
    def _attacker(self, flood: str | None, source: str) -> Iterator[None]:
        if flood is None:
            yield
            return
        token = self._keys.token(ATTACKERS_USERS, days=1)
        with attacked(self.server, flood, source, token=token, version=self._version):
            yield

    def _refused(self) -> dict[str, int]:
        return {key: int(value) for key, value in self.server.labeled("vicinal_refused_total")}


def markdown(parts: Sequence[Part]) -> str:
    heads = (
        "beside | packages | failed | p50, ms | p99, ms | front's memory, MiB | its part of a core "
        "| refused, by reason"
    )
    lines = [f"| {heads} |", "|---|---:|---:|---:|---:|---:|---:|---|"]
    for part in parts:
        said = ", ".join(f"{key} {value:,}" for key, value in sorted(part.refused.items()))
        times = f"{1000 * part.p50:.0f} | {1000 * part.p99:.0f}"
        lines.append(
            f"| {part.name} | {len(part.seconds)} | {len(part.failed)} | {times} | "
            f"{part.memory:.0f} | {part.busy:.0%} | {said} |"
        )
    return "\n".join(lines)


app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="of every part")] = 15,
    only: Annotated[str, typer.Option("--only", help="a part of an attack's name")] = "",
) -> None:
    limit_threads()
    with TemporaryDirectory() as folder, Flooded(Path(folder)) as flooded:
        flooded.part("warm-up", 5)
        quiet = flooded.part("nobody", seconds)
        parts = [quiet]
        parts += [flooded.part(name, seconds, name) for name in FLOODS if only in name]
        if only in "200 calls at a time":
            name = "200 calls at a time"
            parts.append(flooded.part(f"{name}, from the devices' address", seconds, name, HERE))
        parts.append(flooded.part("nobody, afterwards", seconds))
    typer.echo(markdown(parts))
    bad = [part for part in parts if not part.good(quiet)]
    for part in bad:
        typer.echo(f"does not hold: {part.name} {json.dumps(part.failed[:3])}", err=True)
    sys.exit(bool(bad))


if __name__ == "__main__":
    app()
