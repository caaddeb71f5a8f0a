"""What a hostile server can say: shapes of gigabytes, noise, absurd weights, endless streams."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from common.ratings import RatingMatrix
from common.versions.version import Manifest, encode_version, version_digest
from common.vicinal.neighborhood import Neighborhood, own_row
from common.vicinal.slim import ITEM_GRAM, SlimModel
from common.wire import offload_pb2 as wire
from common.wire.messages import (
    neighborhood_to_wire,
    open_items,
    own_to_wire,
    preset_from_wire,
)
from common.wire.packing import pack
from common.wire.sealing import OwnRow
from common.wire.slim import slim_to_wire
from tests.support.scenes import SCALE

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
            SlimModel({"item_embedding": table}, shared),
            ratings,
            open_items(neighborhood),
            shared=True,
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


def _many_items_of_few(said: wire.Description) -> None:
    items_are(said, 1 << 20)


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


def _sealed_lengths(said: wire.Description, own: OwnRow) -> bytes:
    """The same in the part that is sealed."""
    package = wire.OffloadPackage.FromString(package_of(said, own))
    sealed = own.unseal(package.neighborhood.sealed, said.version)
    rows = len(package.neighborhood.row_lengths)
    sealed.hidden.row_lengths[:] = [Manifest.from_json(said.manifest).items] * rows
    package.neighborhood.sealed = own.seal(sealed, said.version)
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
        "more sealed ratings than bytes": Lie(_many_items_of_few, _sealed_lengths),
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
