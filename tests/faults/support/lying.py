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
from common.vicinal.neighborhood import Neighborhood, own_row
from common.vicinal.slim import ITEM_GRAM, SlimModel
from common.wire import offload_pb2 as wire
from common.wire.description import description_to_wire
from common.wire.messages import neighborhood_to_wire, own_to_wire, preset_from_wire
from common.wire.packing import pack
from common.wire.sealing import OwnRow
from common.wire.slim import slim_to_wire
from tests.support.modules import ENVIRONMENT, ROOT, command
from tests.support.scenes import SCALE, Scene, make_scene

MEMORY: Final = 128 << 20
SECONDS: Final = 3.0
# Of a device that has loaded all that it needs and answers for nobody.
WITHOUT_ANSWER: Final = 160 << 20
# Of a whole process on a busy machine; a device's patience is 8 s.
MOST_SECONDS: Final = 60.0
PRESET: Final = "vicinal"
USER: Final = 1
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
    said: wire.Description,
    own: OwnRow,
    *,
    each: int = 3,
    weight: float = 0.1,
    gram: float = 1.0,
    slim: bool = True,
) -> bytes:
    """k − 1 rows of `each` ratings, and rows of a model, all of one number; sealed as it has to be.

    slim  with the rows of the model
    """
    manifest = Manifest.from_json(said.manifest)
    (preset,) = (one for one in said.presets if one.name == PRESET)
    others = preset.neighbors - 1
    # Rows overlap by half, so that some items have support.
    starts = np.arange(others)[:, None] * max(each // 2, 1) % max(manifest.items - each, 1)
    columns = (starts + np.arange(each)).astype(np.int32).ravel()
    rest = RatingMatrix(
        np.arange(others + 1, dtype=np.int64) * each,
        columns,
        np.ones(len(columns), dtype=np.uint8),
        manifest.items,
        SCALE,
    )
    ratings = own_row(own.ratings, rest, preset_from_wire(preset)).stack(rest)
    shapes = manifest.user_shapes(preset.neighbors)
    users = {name: np.full(shape, 0.1, "f4") for name, shape in shapes.items()}
    neighborhood = Neighborhood(ratings, users)
    package = wire.OffloadPackage(
        version=said.version, neighborhood=neighborhood_to_wire(neighborhood)
    )
    sealed = own_to_wire(neighborhood)
    if slim:
        table = np.full((len(np.unique(ratings.items)), manifest.width), weight, "f4")
        shared = {ITEM_GRAM: np.full((1, 1), gram, "f4") * np.eye(manifest.width, dtype="f4")}
        model, rows = slim_to_wire(
            SlimModel({"item_embedding": table}, shared), ratings, shared=True
        )
        package.model.CopyFrom(model)
        sealed.rows.update(rows)
    package.neighborhood.sealed = own.seal(sealed, said.version)
    return package.SerializeToString()


@dataclass
class Lie:
    """What a server says.

    describe  changes an honest description
    package   the bytes of a package
    chunks    of a version
    slim      what kind of device it is told
    known     items that the device has heard of; None: as many as there are said to be
    """

    describe: Callable[[wire.Description], None] = lambda _said: None
    package: Callable[[wire.Description, OwnRow], bytes] = package_of
    chunks: Callable[[], Iterator[bytes]] = lambda: iter(())
    slim: bool = True
    known: int | None = None


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


def _endless_lengths(said: wire.Description, own: OwnRow) -> bytes:
    """Row lengths that add up to billions of ratings, with hardly a byte of them."""
    package = wire.OffloadPackage.FromString(package_of(said, own))
    lengths = package.neighborhood.row_lengths
    lengths[:] = [Manifest.from_json(said.manifest).items] * len(lengths)
    return package.SerializeToString()


def _empty_rows(said: wire.Description, own: OwnRow) -> bytes:
    package = wire.OffloadPackage(version=said.version)
    (preset,) = (one for one in said.presets if one.name == PRESET)
    package.neighborhood.row_lengths[:] = [0] * (preset.neighbors - 1)
    package.neighborhood.sealed = own.seal(wire.Own(), said.version)
    return package.SerializeToString()


def _bomb(said: wire.Description, own: OwnRow) -> bytes:
    package = wire.OffloadPackage.FromString(package_of(said, own))
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
        "4,096 rows of other items each": Lie(
            _many_rows, lambda said, own: package_of(said, own, each=32)
        ),
        "10,000 steps": Lie(_many_steps, lambda said, own: package_of(said, own, each=32)),
        "30,000 rows, whose table of pairs is 7 GB": Lie(
            _pairs, lambda said, own: package_of(said, own, each=2, slim=False)
        ),
        "a closed form of 8,000 rows": Lie(
            _ease, lambda said, own: package_of(said, own, each=64, slim=False)
        ),
        "a closed form without a solution": Lie(
            _singular, lambda said, own: package_of(said, own, each=59, slim=False)
        ),
        "fewer items than the user has rated": Lie(
            lambda said: items_are(said, 4), _empty_rows, known=60
        ),
        "more ratings than bytes": Lie(package=_endless_lengths),
        "ids that unpack to 64 MiB": Lie(package=_bomb),
        "noise": Lie(package=lambda _said, _own: os.urandom(4096)),
        "nothing": Lie(package=lambda _said, _own: b""),
        "weights of 10¹⁹ in a slim package": Lie(
            lambda said: items_are(said, 60), lambda said, own: package_of(said, own, weight=1e19)
        ),
        "a Gram matrix of 10³⁰": Lie(
            lambda said: items_are(said, 60), lambda said, own: package_of(said, own, gram=1e30)
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
        "an answer of 40 MB": Lie(package=lambda _said, _own: bytes(40 << 20)),
    }


def chunks(data: bytes) -> Iterator[bytes]:
    for offset in range(0, len(data), _CHUNK):
        chunk = wire.ModelChunk(offset=offset, data=data[offset : offset + _CHUNK])
        yield chunk.SerializeToString()


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
