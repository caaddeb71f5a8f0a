"""Between the wire's messages and the project's own types; every length is checked.

Decoders raise InputError for anything that an encoder would not have written.
"""

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.model_version import Manifest
from common.neighborhood import Neighborhood
from common.ranking import Counts
from common.ratings import RatingMatrix
from common.settings import VicinalSettings
from common.wire import offload_pb2 as wire

MAX_NEIGHBORS = 65_536
# Fine-tuning makes tables of neighbors × touched items: a few kilobytes of rows, each of other
# items, could ask for all memory there is. 2²⁸ cells are 1 GiB a table.
MAX_CELLS = 1 << 28
# A gap of up to 2³¹ needs five groups of seven bits.
_MAX_VARINT = 5


def neighborhood_to_wire(neighborhood: Neighborhood) -> wire.Neighborhood:
    ratings = neighborhood.ratings
    return wire.Neighborhood(
        row_lengths=np.diff(ratings.indptr).tolist(),
        items=encode_varints(_gaps(ratings)),
        levels=ratings.levels.tobytes(),
        user_parameters={
            name: np.ascontiguousarray(rows, dtype="<f4").tobytes()
            for name, rows in neighborhood.user_parameters.items()
        },
    )


def neighborhood_from_wire(message: wire.Neighborhood, manifest: Manifest) -> Neighborhood:
    rows = len(message.row_lengths)
    if not 1 <= rows <= MAX_NEIGHBORS:
        raise InputError(f"offload package: {rows} neighbors, not 1–{MAX_NEIGHBORS}")
    lengths = np.fromiter(message.row_lengths, dtype=np.int64, count=rows)
    if lengths.max() > manifest.items or lengths.sum() != len(message.levels):
        raise InputError("offload package: row lengths do not fit the ratings")
    if rows * min(len(message.levels), manifest.items) > MAX_CELLS:
        raise InputError(
            f"offload package: {rows} neighbors with {len(message.levels)} ratings "
            f"need tables of more than {MAX_CELLS} cells"
        )
    indptr = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(lengths, out=indptr[1:])
    gaps = decode_varints(message.items, len(message.levels))
    if len(gaps) and gaps.max() > manifest.items:
        raise InputError("offload package: an item id is out of range")
    # Ids are one less than the running sum of (gap + 1), which starts anew in every row.
    running = np.concatenate([[0], np.cumsum(gaps + 1)])
    items = running[1:] - 1 - np.repeat(running[indptr[:-1]], lengths)
    if len(items) and items.max() >= manifest.items:
        raise InputError("offload package: an item id is out of range")
    ratings = RatingMatrix(
        indptr,
        items.astype(np.int32),
        np.frombuffer(message.levels, dtype=np.uint8),
        manifest.items,
        manifest.scale,
    )
    return Neighborhood(ratings, _user_parameters(message, manifest, rows))


def _gaps(ratings: RatingMatrix) -> NDArray[np.int64]:
    items = ratings.items.astype(np.int64)
    before = np.concatenate([[-1], items[:-1]]) if len(items) else items
    starts = ratings.indptr[:-1][np.diff(ratings.indptr) > 0]
    before[starts] = -1
    gaps: NDArray[np.int64] = items - before - 1
    return gaps


def _user_parameters(
    message: wire.Neighborhood, manifest: Manifest, rows: int
) -> dict[str, NDArray[np.float32]]:
    shapes = manifest.user_shapes(rows)
    if set(message.user_parameters) != set(shapes):
        raise InputError("offload package: the user parameters are not the model's")
    tables = {}
    for name, shape in shapes.items():
        data = message.user_parameters[name]
        if len(data) != 4 * int(np.prod(shape)):
            raise InputError(f"offload package: {name} has {len(data)} bytes, not {shape}")
        tables[name] = np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(shape)
    return tables


def encode_varints(values: NDArray[np.int64]) -> bytes:
    """LEB128 of non-negative integers below 2³⁵.

    >>> encode_varints(np.array([1, 300])).hex()
    '01ac02'
    """
    groups = values[:, None] >> (7 * np.arange(_MAX_VARINT))
    used = np.maximum((groups > 0).sum(axis=1), 1)
    position = np.arange(_MAX_VARINT)
    more = position < used[:, None] - 1
    encoded = (groups & 0x7F) | (more * 0x80)
    octets: NDArray[np.uint8] = encoded[position < used[:, None]].astype(np.uint8)
    return octets.tobytes()


def decode_varints(data: bytes, count: int) -> NDArray[np.int64]:
    """Exactly `count` LEB128 integers that fill the bytes; InputError otherwise."""
    octets = np.frombuffer(data, dtype=np.uint8).astype(np.int64)
    ends = np.flatnonzero(octets < 0x80)
    if len(ends) != count or (count and ends[-1] != len(octets) - 1) or (not count and len(data)):
        raise InputError(f"offload package: the item ids are not {count} numbers")
    starts = np.concatenate([[0], ends[:-1] + 1]) if count else ends
    place = np.arange(len(octets)) - np.repeat(starts, ends - starts + 1)
    if len(place) and place.max() >= _MAX_VARINT:
        raise InputError("offload package: an item id is too long")
    shifted = (octets & 0x7F) << (7 * place)
    sums: NDArray[np.int64] = np.add.reduceat(shifted, starts) if count else shifted
    return sums


def counts_to_wire(counts: Counts) -> wire.Counts:
    return wire.Counts(
        eligible=counts.eligible,
        hits=counts.hits,
        users=counts.users,
        user_hits=counts.user_hits,
        liked=counts.liked,
        liked_hits=counts.liked_hits,
    )


def counts_from_wire(message: wire.Counts) -> Counts:
    if len(message.eligible) != len(message.hits):
        raise InputError("report: hits and eligible users are not of one length")
    try:
        return Counts(
            tuple(message.eligible),
            tuple(message.hits),
            message.users,
            message.user_hits,
            message.liked,
            message.liked_hits,
        )
    except ValueError as error:
        raise InputError(f"report: {error}") from error


def preset_to_wire(name: str, settings: VicinalSettings) -> wire.Preset:
    return wire.Preset(
        name=name,
        neighbors=settings.neighbors,
        unrated_weight=settings.unrated_weight,
        steps=settings.steps,
        step_rule=settings.step_rule,
        learning_rate=settings.learning_rate,
        min_support=settings.min_support,
        proximal_weight=settings.proximal_weight,
    )


def preset_from_wire(message: wire.Preset) -> VicinalSettings:
    return VicinalSettings(
        neighbors=message.neighbors,
        unrated_weight=message.unrated_weight,
        steps=message.steps,
        step_rule=message.step_rule,  # type: ignore[arg-type]  # checked by VicinalSettings
        learning_rate=message.learning_rate,
        min_support=message.min_support,
        proximal_weight=message.proximal_weight,
    )
