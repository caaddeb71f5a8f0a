"""A server that lies, and the devices that ask it: each lie has to end in one line.

    python lying.py

tells every lie to a `vicinal device` process of its own, and prints a table. The exit code is 1
when a device took more than it allows, said more than one line, or gave an answer.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self, final

import grpc
import numpy as np

from client.stores.ratings import write_local_ratings
from common.ratings import RatingMatrix
from common.versions.version import Manifest, encode_version, version_digest
from common.vicinal.neighborhood import Neighborhood
from common.wire import offload_pb2 as wire
from common.wire.description import description_to_wire
from common.wire.messages import neighborhood_to_wire
from common.wire.packing import pack
from tests.support.modules import ENVIRONMENT, ROOT, command
from tests.support.scenes import SCALE, Scene, make_scene

MEMORY: Final = 128 << 20
SECONDS: Final = 3.0
# Of a device that has loaded all that it needs and answers for nobody.
WITHOUT_ANSWER: Final = 160 << 20
# Of a whole process on a busy machine; a device's patience is 8 s.
MOST_SECONDS: Final = 60.0
PRESET: Final = "vicinal"
_CHUNK: Final = 64 << 10


def items_are(said: wire.Description, items: int, *, width: int = 8, model: str = "mf") -> None:
    """Another manifest, with sizes that fit it."""
    manifest = replace(Manifest.from_json(said.manifest), items=items, width=width, model=model)
    said.manifest = manifest.to_json()
    tensors = sum(4 * int(np.prod(shape)) for shape in manifest.shared_shapes().values())
    said.version_bytes = tensors + 600
    del said.forms[:], said.transfers[:], said.watched_items[:]


def preset_is(said: wire.Description, **fields: float | str) -> None:
    (one,) = (each for each in said.presets if each.name == PRESET)
    for name, value in fields.items():
        setattr(one, name, value)
    del said.presets[:]
    said.presets.append(one)


def package_of(
    said: wire.Description, *, each: int = 3, weight: float = 0.1, gram: float = 1.0
) -> bytes:
    """k rows of `each` ratings, and rows of a model, all of one number."""
    manifest = Manifest.from_json(said.manifest)
    (k,) = (one.neighbors for one in said.presets if one.name == PRESET)
    # Rows overlap by half, so that some items have support.
    starts = np.arange(k)[:, None] * max(each // 2, 1) % max(manifest.items - each, 1)
    columns = (starts + np.arange(each)).astype(np.int32).ravel()
    ratings = RatingMatrix(
        np.arange(k + 1, dtype=np.int64) * each,
        columns,
        np.ones(len(columns), dtype=np.uint8),
        manifest.items,
        SCALE,
    )
    users = {name: np.full(shape, 0.1, "f4") for name, shape in manifest.user_shapes(k).items()}
    package = wire.OffloadPackage(
        version=said.version, neighborhood=neighborhood_to_wire(Neighborhood(ratings, users))
    )
    touched = len(np.unique(columns))
    table = np.full((touched, manifest.width), weight, "<f4").tobytes()
    package.model.rows["item_embedding"] = table
    gram_table = gram * np.eye(manifest.width, dtype="<f4")
    package.model.shared["item_gram"] = gram_table.tobytes()
    return package.SerializeToString()


@dataclass
class Lie:
    """What a server says.

    describe  changes an honest description
    package   the bytes of a package
    chunks    of a version
    slim      what kind of device it is told
    """

    describe: Callable[[wire.Description], None] = lambda _said: None
    package: Callable[[wire.Description], bytes] = package_of
    chunks: Callable[[], Iterator[bytes]] = lambda: iter(())
    slim: bool = True


def _many_items(said: wire.Description) -> None:
    items_are(said, 1 << 27, width=4)
    preset_is(said, neighbors=2, min_support=2)


def _many_rows(said: wire.Description) -> None:
    items_are(said, 1 << 16)
    preset_is(said, neighbors=4096)


def _many_steps(said: wire.Description) -> None:
    items_are(said, 4096, width=64)
    preset_is(said, neighbors=256, steps=10_000)


def _pairs(said: wire.Description) -> None:
    items_are(said, 4096, model="nsvd")
    preset_is(said, neighbors=30_000)


def _singular(said: wire.Description) -> None:
    items_are(said, 60, model="ease")
    preset_is(said, unrated_weight=0.0, steps=0, step_rule="closed-form", proximal_weight=5e-324)


def _ease(said: wire.Description) -> None:
    items_are(said, 1 << 15, model="ease")
    preset_is(
        said,
        neighbors=8000,
        unrated_weight=0.0,
        steps=0,
        step_rule="closed-form",
        proximal_weight=1.0,
    )


def _rows_only(said: wire.Description, each: int = 3) -> bytes:
    package = wire.OffloadPackage.FromString(package_of(said, each=each))
    package.ClearField("model")
    return package.SerializeToString()


def _endless_lengths(said: wire.Description) -> bytes:
    """Row lengths that add up to billions of ratings, with hardly a byte of them."""
    package = wire.OffloadPackage.FromString(package_of(said))
    lengths = package.neighborhood.row_lengths
    lengths[:] = [Manifest.from_json(said.manifest).items] * len(lengths)
    return package.SerializeToString()


def _bomb(said: wire.Description) -> bytes:
    package = wire.OffloadPackage.FromString(package_of(said))
    package.neighborhood.items = pack(bytes(64 << 20))
    return package.SerializeToString()


def _names(said: wire.Description) -> None:
    for place in range(3):
        said.presets.add().CopyFrom(said.presets[0])
        said.presets[-1].name = f"\x1b[2J\x1b[31m{place}" + "A" * 400_000


def _unknown_preset(said: wire.Description) -> None:
    said.presets[0].name = "other"
    del said.presets[1:]


def _many_watched(said: wire.Description) -> None:
    said.watched_items[:] = [3] * 10_000_000


def _long_list(said: wire.Description) -> None:
    said.list_length = (1 << 32) - 1


def _experiment(said: wire.Description) -> None:
    said.experiment = "\u202eevil\x1b]0;owned\x07" + "x" * 1_000_000


def _large_version(said: wire.Description) -> None:
    items_are(said, 1 << 22, width=64)


def _absurd_version(said: wire.Description) -> None:
    data = absurd_version(said)
    items_are(said, 60)
    said.version, said.version_bytes = version_digest(data), len(data)


def absurd_version(said: wire.Description) -> bytes:
    manifest = replace(Manifest.from_json(said.manifest), items=60, width=8)
    return encode_unchecked(manifest, {"item_embedding": np.full((60, 8), 1e19, "f4")})


def encode_unchecked(manifest: Manifest, tables: dict[str, np.ndarray]) -> bytes:
    """The bytes of a version that nobody would write: an honest one, with its numbers changed."""
    tame = {name: np.zeros_like(table) for name, table in tables.items()}
    data = encode_version(manifest, tame)
    tail = b"".join(tables[name].tobytes() for name in sorted(tables))
    return data[: len(data) - len(tail)] + tail


def _endless() -> Iterator[bytes]:
    """Chunks that follow one another and never end."""
    offset = 0
    while True:
        yield wire.ModelChunk(offset=offset, data=bytes(_CHUNK)).SerializeToString()
        offset += _CHUNK


def lies(honest: wire.Description) -> dict[str, Lie]:
    """By what they are. `honest` is what the server would say."""
    absurd = absurd_version(honest)
    return {
        "2²⁷ items in a slim package": Lie(_many_items),
        "2²⁷ items in a whole model": Lie(_many_items, slim=False),
        "4,096 rows of other items each": Lie(_many_rows, lambda said: package_of(said, each=32)),
        "10,000 steps": Lie(_many_steps, lambda said: package_of(said, each=32)),
        "30,000 rows, whose table of pairs is 7 GB": Lie(_pairs, lambda said: _rows_only(said, 2)),
        "a closed form of 8,000 rows": Lie(_ease, lambda said: _rows_only(said, 64)),
        "a closed form without a solution": Lie(_singular, lambda said: _rows_only(said, 59)),
        "fewer items than the user has rated": Lie(lambda said: items_are(said, 4)),
        "more ratings than bytes": Lie(package=_endless_lengths),
        "ids that unpack to 64 MiB": Lie(package=_bomb),
        "noise": Lie(package=lambda _said: os.urandom(4096)),
        "nothing": Lie(package=lambda _said: b""),
        "weights of 10¹⁹ in a slim package": Lie(
            lambda said: items_are(said, 60), lambda said: package_of(said, weight=1e19)
        ),
        "a Gram matrix of 10³⁰": Lie(
            lambda said: items_are(said, 60), lambda said: package_of(said, gram=1e30)
        ),
        "weights of 10¹⁹ in a model": Lie(
            _absurd_version, slim=False, chunks=lambda: chunks(absurd)
        ),
        "a version of 1 GiB": Lie(_large_version, slim=False),
        "a version that never ends": Lie(
            lambda said: items_are(said, 200_000), slim=False, chunks=_endless
        ),
        "names of presets that a terminal obeys": Lie(_names),
        "another preset than is asked for": Lie(_unknown_preset),
        "ten million watched items": Lie(_many_watched),
        "a list of 2³² items": Lie(_long_list),
        "a line of a megabyte": Lie(_experiment),
        "an answer of 40 MB": Lie(package=lambda _said: bytes(40 << 20)),
    }


def chunks(data: bytes) -> Iterator[bytes]:
    for offset in range(0, len(data), _CHUNK):
        chunk = wire.ModelChunk(offset=offset, data=data[offset : offset + _CHUNK])
        yield chunk.SerializeToString()


@final
class LyingServer:
    """Says what a lie says, in raw bytes; a context manager, on loopback."""

    def __init__(self, honest: wire.Description, lie: Lie) -> None:
        said = wire.Description()
        said.CopyFrom(honest)
        lie.describe(said)
        self._said, self._lie = said, lie
        largest = [("grpc.max_send_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(4), options=largest)
        calls = {
            "Describe": lambda _asked, _context: said.SerializeToString(),
            "GetPackage": lambda _asked, _context: lie.package(said),
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
    write_local_ratings(folder / "ratings", scene.local)
    with LyingServer(honest, lie) as server:
        limits = ("--memory", str(MEMORY), "--seconds", str(SECONDS))
        files = ("--ratings", str(folder / "ratings"), "--store", str(folder / "store"))
        kind = ("--slim",) if lie.slim else ()
        begun = time.monotonic()
        done = subprocess.run(
            command(
                "tests.faults.support.measured_device",
                str(folder / "memory"),
                *("--users", "1", "--server", server.address),
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
