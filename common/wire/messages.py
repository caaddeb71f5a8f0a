"""Between the wire's messages and the project's own types; every length is checked.

Decoders raise InputError for anything that an encoder would not have written.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ranking import Counts
from common.ratings import RatingMatrix
from common.versions.version import Manifest
from common.vicinal.neighborhood import Neighborhood, own_row
from common.vicinal.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.packing import MAX_VARINT, decode_varints, encode_varints, pack, unpack
from common.wire.rounding import decode_rows, encode_rows

MAX_NEIGHBORS = 65_536
# Fine-tuning makes tables of neighbors × touched items: a few kilobytes of rows, each of other
# items, could ask for all memory there is. 2²⁸ entries are 1 GiB a table.
MAX_ENTRIES = 1 << 28
# Compressed, a few kilobytes could be gigabytes of ratings.
MAX_RATINGS = 1 << 24


class Received(NamedTuple):
    """A neighborhood that came over the wire, and which items its open rows have, ascending."""

    neighborhood: Neighborhood
    open_items: NDArray[np.int32]


def neighborhood_to_wire(
    neighborhood: Neighborhood, hidden: NDArray[np.bool_] | None = None
) -> wire.Neighborhood:
    """All but row 0, which is the user's own, and of which own_to_wire() has the rest.

    hidden  items [I] whose ratings are sealed; None: of none

    User parameters are rounded, unless they have been (common.wire.rounding).
    """
    others = _others(neighborhood)
    rows = _rows(others if hidden is None else others.of_items(~hidden))
    return wire.Neighborhood(
        row_lengths=rows.row_lengths,
        items=rows.items,
        levels=rows.levels,
        user_parameters={
            name: encode_rows(rows[1:]) for name, rows in neighborhood.user_parameters.items()
        },
    )


def own_to_wire(neighborhood: Neighborhood, hidden: NDArray[np.bool_] | None = None) -> wire.Own:
    """Row 0's user parameters, and the others' ratings of hidden items [I].

    Row 0's ratings are never sent.
    """
    own = neighborhood.user_parameters
    message = wire.Own(user_parameters={name: encode_rows(rows[:1]) for name, rows in own.items()})
    if hidden is not None and hidden.any():
        message.hidden.CopyFrom(_rows(_others(neighborhood).of_items(hidden)))
    return message


def open_items(
    neighborhood: Neighborhood, hidden: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Which items the rows have that neighborhood_to_wire() writes, ascending."""
    found: NDArray[np.int32] = np.unique(_others(neighborhood).items)
    return found if hidden is None else found[~hidden[found]]


def _others(neighborhood: Neighborhood) -> RatingMatrix:
    return neighborhood.ratings.rows(np.arange(1, len(neighborhood)))


def _rows(ratings: RatingMatrix) -> wire.Rows:
    return wire.Rows(
        row_lengths=np.diff(ratings.indptr).tolist(),
        items=pack(encode_varints(_gaps(ratings))),
        levels=pack(ratings.levels.tobytes()),
    )


def rows_from_wire(
    message: wire.Neighborhood, manifest: Manifest, settings: VicinalSettings, *, more: int = 0
) -> tuple[RatingMatrix, dict[str, NDArray[np.float32]]]:
    """What is open in a neighborhood, to anybody: its rows, and their user parameters.

    Those are none where they follow from the rows (settings.fold_in).

    more  ratings of a row that will be beside them
    """
    rows = len(message.row_lengths)
    if rows >= MAX_NEIGHBORS:
        raise InputError(f"offload package: {rows} neighbors, not 0–{MAX_NEIGHBORS - 1}")
    ratings = _ratings(message, manifest, more)
    return ratings, _user_parameters(message.user_parameters, manifest, settings, rows)


def neighborhood_from_wire(
    message: wire.Neighborhood,
    manifest: Manifest,
    own: wire.Own,
    own_ratings: RatingMatrix,
    settings: VicinalSettings,
) -> Received:
    """The neighborhood of which `own` and the user's ratings [1, I] are row 0."""
    if (own_ratings.item_count, own_ratings.scale) != (manifest.items, manifest.scale):
        raise InputError("the device's ratings are over other items or another scale")
    others, rest = rows_from_wire(message, manifest, settings, more=len(own_ratings))
    rows, seen = others.user_count, np.unique(others.items)
    if own.HasField("hidden"):
        hidden = _ratings(own.hidden, manifest, len(own_ratings))
        if hidden.user_count != rows or np.isin(hidden.items, seen).any():
            raise InputError("offload package: its hidden ratings do not fit its rows")
        others = _merged(others, hidden)
    first = _user_parameters(own.user_parameters, manifest, settings, 1)
    neighborhood = Neighborhood(
        own_row(own_ratings, others, settings).stack(others),
        {name: np.concatenate([first[name], rest[name]]) for name in first},
    )
    return Received(neighborhood, seen)


def _ratings(message: wire.Neighborhood | wire.Rows, manifest: Manifest, more: int) -> RatingMatrix:
    """Rows of ratings, to be beside a row of `more`. Raises InputError."""
    rows = len(message.row_lengths)
    lengths = np.fromiter(message.row_lengths, dtype=np.int64, count=rows)
    count = int(lengths.sum())
    if lengths.max(initial=0) > manifest.items or count > MAX_RATINGS:
        raise InputError("offload package: a row has more ratings than items, or all too many")
    if (1 + rows) * min(count + more, manifest.items) > MAX_ENTRIES:
        raise InputError(
            f"offload package: {rows} neighbors with {count} ratings "
            f"need tables of more than {MAX_ENTRIES} entries"
        )
    levels = unpack(message.levels, most=count)
    if len(levels) != count:
        raise InputError("offload package: row lengths do not fit the ratings")
    indptr = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(lengths, out=indptr[1:])
    gaps = decode_varints(unpack(message.items, most=MAX_VARINT * count), count)
    if len(gaps) and gaps.max() > manifest.items:
        raise InputError("offload package: an item id is out of range")
    # Ids are one less than the running sum of (gap + 1), which starts anew in every row.
    running = np.concatenate([[0], np.cumsum(gaps + 1)])
    items = running[1:] - 1 - np.repeat(running[indptr[:-1]], lengths)
    if len(items) and items.max() >= manifest.items:
        raise InputError("offload package: an item id is out of range")
    return RatingMatrix(
        indptr,
        items.astype(np.int32),
        np.frombuffer(levels, dtype=np.uint8),
        manifest.items,
        manifest.scale,
    )


def _merged(one: RatingMatrix, other: RatingMatrix) -> RatingMatrix:
    """Rows of both, of different items, one beside the other."""
    return RatingMatrix.from_triples(
        np.concatenate([one.users, other.users]),
        np.concatenate([one.items, other.items]),
        np.concatenate([one.levels, other.levels]),
        user_count=one.user_count,
        item_count=one.item_count,
        scale=one.scale,
    )


def _gaps(ratings: RatingMatrix) -> NDArray[np.int64]:
    items = ratings.items.astype(np.int64)
    before = np.concatenate([[-1], items[:-1]]) if len(items) else items
    starts = ratings.indptr[:-1][np.diff(ratings.indptr) > 0]
    before[starts] = -1
    gaps: NDArray[np.int64] = items - before - 1
    return gaps


def _user_parameters(
    data: Mapping[str, bytes], manifest: Manifest, settings: VicinalSettings, rows: int
) -> dict[str, NDArray[np.float32]]:
    shapes = {} if settings.fold_in else manifest.user_shapes(rows)
    if set(data) != set(shapes):
        raise InputError("offload package: the user parameters are not the model's")
    return {name: decode_rows(data[name], shape) for name, shape in shapes.items()}


def counts_to_wire(counts: Counts) -> wire.Counts:
    return wire.Counts(
        eligible=counts.eligible,
        hits=counts.hits,
        users=counts.users,
        user_hits=counts.user_hits,
        liked=counts.liked,
        liked_hits=counts.liked_hits,
        on_device=counts.on_device,
        stale=counts.stale,
        by_server=counts.by_server,
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
            message.on_device,
            message.stale,
            message.by_server,
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
        neighbors_by=settings.neighbors_by,
        assumed_fakes=settings.assumed_fakes,
        margin=settings.margin,
        candidates=settings.candidates,
        exploration=settings.exploration,
        row_cap=settings.row_cap,
        fold_in=settings.fold_in,
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
        # Of a server from before these fields: what it did then.
        neighbors_by=message.neighbors_by or "embedding",  # type: ignore[arg-type]  # checked
        assumed_fakes=message.assumed_fakes,
        margin=message.margin or 1,
        candidates=message.candidates,
        exploration=message.exploration,
        row_cap=message.row_cap,
        fold_in=message.fold_in,
    )
