"""Between the wire's part of a model and the project's own; every length is checked."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.models import model_named
from common.ratings import RatingMatrix
from common.versions.version import MAX_WEIGHT, Manifest, sane
from common.vicinal.entries import touched_items
from common.vicinal.slim import ITEM_GRAM, SlimModel, slim_shapes
from common.wire import offload_pb2 as wire

Tables = Mapping[str, NDArray[np.float32]]


def slim_to_wire(
    slim: SlimModel, ratings: RatingMatrix, open_items: NDArray[np.int32], *, shared: bool
) -> tuple[wire.SlimModel, dict[str, bytes]]:
    """The part for anybody to see, and the rows of items that no open row has, to be sealed.

    `shared` says whether the receiver lacks what all packages of the version share.
    """
    mine = ~np.isin(touched_items(ratings), open_items)
    rows = _data({name: table[~mine] for name, table in slim.rows.items()})
    own = _data({name: table[mine] for name, table in slim.rows.items()})
    return wire.SlimModel(rows=rows, shared=_data(slim.shared) if shared else {}), own


def slim_from_wire(
    message: wire.SlimModel,
    own: Mapping[str, bytes],
    manifest: Manifest,
    ratings: RatingMatrix,
    open_items: NDArray[np.int32],
    *,
    shared: Tables | None,
) -> SlimModel:
    """The part of a model that a neighborhood's ratings touch, of which `own` was sealed.

    `shared` is what the device has of the version already; None where it asked for it. Raises
    InputError for parts that are missing, unknown, of another size or not finite.
    """
    model, mine = model_named(manifest.model), ~np.isin(touched_items(ratings), open_items)
    theirs, others = slim_shapes(model, int((~mine).sum()), manifest.width)
    if shared is None:
        shared = _tables(message.shared, others, manifest.items)
    elif message.shared:
        raise InputError("slim package: it carries tables that were not asked for")
    sealed, _ = slim_shapes(model, int(mine.sum()), manifest.width)
    rows = {}
    for name, table in _tables(message.rows, theirs, manifest.items).items():
        rows[name] = np.empty((len(mine), *table.shape[1:]), dtype=np.float32)
        rows[name][~mine] = table
    for name, table in _tables(own, sealed, manifest.items).items():
        rows[name][mine] = table
    return SlimModel(rows, shared)


def _data(tables: Tables) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(table, "<f4").tobytes() for name, table in tables.items()}


def _tables(
    data: Mapping[str, bytes], shapes: Mapping[str, tuple[int, ...]], items: int
) -> dict[str, NDArray[np.float32]]:
    if set(data) != set(shapes):
        raise InputError("slim package: its tables are not the model's")
    tables = {}
    for name, shape in shapes.items():
        if len(data[name]) != 4 * int(np.prod(shape)):
            raise InputError(f"slim package: {name} has {len(data[name])} bytes, not {shape}")
        table = np.frombuffer(data[name], dtype="<f4").astype(np.float32).reshape(shape)
        # A Gram matrix holds sums over all items, of products of two weights.
        most = items * MAX_WEIGHT**2 if name == ITEM_GRAM else MAX_WEIGHT
        if not sane(table, most):
            raise InputError(f"slim package: {name} is not finite, or beyond ±{most:,.0f}")
        tables[name] = table
    return tables
