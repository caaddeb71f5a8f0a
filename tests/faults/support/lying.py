"""A server that lies, and the devices that ask it: each lie has to end in one line.

    python lying.py

tells every lie to a `vicinal device` process of its own, and prints a table. The exit code is 1
when a device took more than it allows, said more than one line, or gave an answer.
"""

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self, final

import grpc

from client.stores.ratings import write_local_ratings
from common.ratings import RatingMatrix
from common.versions.version import Manifest
from common.wire import offload_pb2 as wire
from common.wire.description import description_to_wire
from common.wire.sealing import OwnRow
from tests.faults.support.lies import Lie, lies
from tests.support.modules import ENVIRONMENT, ROOT, command
from tests.support.scenes import Scene, make_scene

MEMORY: Final = 128 << 20
SECONDS: Final = 3.0
# Of a device that has loaded all that it needs and answers for nobody.
WITHOUT_ANSWER: Final = 160 << 20
# Of a whole process on a busy machine; a device's patience is 8 s.
MOST_SECONDS: Final = 60.0
USER: Final = 1


@final
class LyingServer:
    """Says what a lie says, in raw bytes; a context manager, on loopback."""

    def __init__(self, said: wire.Description, lie: Lie, own: OwnRow) -> None:
        largest = [("grpc.max_send_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(4), options=largest)
        calls = {
            "Describe": lambda _asked, _context: said.SerializeToString(),
            "GetPackage": lambda _asked, _context: lie.package(said, own),
            "Report": lambda _asked, _context: b"",
        }
        handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
        handlers["FetchModel"] = grpc.unary_stream_rpc_method_handler(
            lambda _asked, _context: lie.chunks()
        )
        generic = grpc.method_handlers_generic_handler("vicinal.v1.Offload", handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop(None).wait()


@dataclass(frozen=True)
class Told:
    """What became of a device: its exit code, its lines, its memory in bytes, seconds."""

    code: int
    lines: tuple[str, ...]
    answered: str
    memory: int
    seconds: float

    @property
    def good(self) -> bool:
        """One line, no answer, and no more memory than was allowed."""
        return (
            self.code in (1, 2)
            and not self.answered
            and len(self.lines) == 1
            and self.lines[0].startswith("vicinal: error: ")
            and "(a bug" not in self.lines[0]
            and len(self.lines[0]) < 1000
            and self.lines[0].isprintable()
            and self.memory < WITHOUT_ANSWER + MEMORY
            and self.seconds < MOST_SECONDS
        )


def tell(folder: Path, scene: Scene, honest: wire.Description, lie: Lie) -> Told:
    """A lie to a device process; files in `folder`."""
    folder.mkdir(exist_ok=True)
    said = wire.Description()
    said.CopyFrom(honest)
    lie.describe(said)
    # A server that lies writes the devices' files too.
    train = scene.local.train
    items = lie.known or max(Manifest.from_json(said.manifest).items, train.item_count)
    known = RatingMatrix(train.indptr, train.items, train.levels, items, train.scale)
    local = replace(scene.local, train=known)
    write_local_ratings(folder / "ratings", local)
    with LyingServer(said, lie, local.own(USER)) as server:
        limits = ("--memory", str(MEMORY), "--seconds", str(SECONDS))
        files = ("--ratings", str(folder / "ratings"), "--store", str(folder / "store"))
        kind = ("--slim",) if lie.slim else ()
        begun = time.monotonic()
        done = subprocess.run(
            command(
                "tests.faults.support.measured_device",
                str(folder / "memory"),
                *("--users", str(USER), "--server", server.address),
                *(*files, *limits, *kind),
            ),
            cwd=ROOT,
            env={**ENVIRONMENT, "VICINAL_QUIET": "1"},
            capture_output=True,
            text=True,
            timeout=4 * MOST_SECONDS,
            check=False,
        )
        seconds = time.monotonic() - begun
    memory = folder / "memory"
    return Told(
        done.returncode,
        tuple(done.stderr.splitlines()),
        done.stdout,
        int(memory.read_text()) if memory.exists() else sys.maxsize,
        seconds,
    )


@final
class Liar:
    """Tells one lie after another, each to a new device process; files in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._scene = make_scene(folder)
        self._honest = honest_description(self._scene)
        self._lies = lies(self._honest)
        self.told: list[tuple[str, Told]] = []

    def __len__(self) -> int:
        """Different lies that there are."""
        return len(self._lies)

    def tell_next(self) -> None:
        place = len(self.told)
        name = list(self._lies)[place % len(self._lies)]
        folder = self._folder / str(place)
        told = tell(folder, self._scene, self._honest, self._lies[name])
        shutil.rmtree(folder)
        self.told.append((name, told))

    @property
    def bad(self) -> list[tuple[str, Told]]:
        """What took more than a device allows, or ended in anything but one line."""
        return [(name, told) for name, told in self.told if not told.good]

    @property
    def most_mib(self) -> float:
        return max((told.memory for _, told in self.told), default=0) / (1 << 20)


def honest_description(scene: Scene) -> wire.Description:
    return description_to_wire(scene.description())


def main() -> None:
    rows = ["| lie | exit code | memory, MiB | s | line |", "|---|---:|---:|---:|---|"]
    with TemporaryDirectory() as folder:
        liar = Liar(Path(folder))
        for _ in range(len(liar)):
            liar.tell_next()
            name, told = liar.told[-1]
            line = json.dumps(told.lines[0] if len(told.lines) == 1 else told.lines)
            mib = told.memory >> 20
            rows.append(f"| {name} | {told.code} | {mib} | {told.seconds:.1f} | {line} |")
    sys.stdout.write("\n".join(rows) + "\n")
    sys.exit(bool(liar.bad))


if __name__ == "__main__":
    main()
