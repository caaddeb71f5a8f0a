"""Users' or items' factors from a stranger's files: a row of numbers each, and an id.

Shapes: R rows, d columns.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.names import unknown
from server.data.columns import role_of
from server.importing.arrays import (
    PICKLES,
    read_npy,
    read_npz,
    read_safetensors,
    refuse_pickles,
)
from server.importing.ids import read_ids
from server.importing.parquet import ID_NAMES, read_parquet
from server.importing.places import Place

MAX_WIDTH: Final = 4096
# No training gives more; products of a whole row stay finite in float32.
MAX_VALUE: Final = 1e6
# What RecBole calls the row that stands for no user or item.
PADDING_ID: Final = "[PAD]"
KINDS: Final = (".npy", ".npz", ".safetensors", ".parquet")
# Of arrays in files that hold several: implicit's, LensKit's and RecBole's names.
NAMES: Final = {
    "user": ("user_factors", "user_embeddings", "user_embedding", "user_embedding.weight", "users"),
    "item": ("item_factors", "item_embeddings", "item_embedding", "item_embedding.weight", "items"),
}


@dataclass(frozen=True)
class Factors:
    """Rows float32 [R, d] of one kind, `user` or `item`; ids are None where no file gives any."""

    kind: str
    rows: NDArray[np.float32]
    ids: tuple[str, ...] | None


def read_factors(
    kind: str, table: Place, *, ids: Place | None = None, biases: Place | None = None
) -> tuple[Factors, NDArray[np.float32] | None]:
    """Factors, and their biases [R] where there are some.

    table   npy, npz, safetensors or parquet, or a folder of parquet files. A column of ids in it
            names its rows, which are in any order then; with `ids` those are row numbers of `ids`
    ids     of the rows, in their order
    biases  a number for each row, in any of these forms; with ids of their own these are the
            table's, or row numbers where it has none

    Rows named [PAD] are left out. Raises InputError for what does not fit together, for other
    than floats, and for numbers that are not finite or that no training gives.
    """
    rows, own_ids = _table(kind, table)
    names = own_ids
    if ids is not None:
        names = _named(kind, len(rows), own_ids, read_ids(ids), ids)
    column = None
    if biases is not None:
        column = _biases(kind, biases, own_ids, len(rows))
    if names is not None:
        _refuse_repeats(kind, names, ids or table)
        kept = np.array([name != PADDING_ID for name in names], dtype=bool)
        if not kept.all():
            rows, column = rows[kept], None if column is None else column[kept]
            names = tuple(name for name in names if name != PADDING_ID)
    found = Factors(kind, rows, names)
    if not found.rows.any():
        raise InputError(f"{table.path}: all numbers are 0: the model is not trained")
    return found, column


def with_biases(
    users: Factors,
    items: Factors,
    *,
    user_biases: NDArray[np.float32] | None = None,
    item_biases: NDArray[np.float32] | None = None,
    global_bias: float = 0.0,
) -> tuple[Factors, Factors]:
    """The same predictions without biases: they become columns of the factors.

        r̂ = p · q + b_u + b_i + μ = (p, 1, b_u + μ) · (q, b_i, 1)

    Raises InputError for factors of different widths.
    """
    if users.rows.shape[1] != items.rows.shape[1]:
        raise InputError(
            f"users have {users.rows.shape[1]} factors and items {items.rows.shape[1]}: they are "
            "not of one model"
        )
    of_users, of_items = [users.rows], [items.rows]
    if item_biases is not None:
        of_users.append(np.ones((len(users.rows), 1), dtype=np.float32))
        of_items.append(item_biases[:, None])
    if user_biases is not None or global_bias:
        own = np.zeros(len(users.rows)) if user_biases is None else user_biases
        of_users.append((own + global_bias).astype(np.float32)[:, None])
        of_items.append(np.ones((len(items.rows), 1), dtype=np.float32))
    return (
        replace(users, rows=np.concatenate(of_users, axis=1)),
        replace(items, rows=np.concatenate(of_items, axis=1)),
    )


def checked_bias(value: float) -> float:
    """A model's overall mean. Raises InputError for one that is none."""
    if not abs(value) <= MAX_VALUE:
        raise InputError(f"global bias {value:g}: give the mean that the model adds everywhere")
    return value


def _table(kind: str, at: Place) -> tuple[NDArray[np.float32], tuple[str, ...] | None]:
    """Rows [R, d], and ids that are in the same file."""
    path, suffix = at.path, at.path.suffix.lower()
    refuse_pickles(path)
    if suffix == ".parquet" or path.is_dir():
        table = read_parquet(path, "factors", at.member)
        found = table["id"].to_list()
        if None in found and any(each is not None for each in found):
            raise InputError(f"{path}: row {found.index(None) + 1} has no id")
        named = tuple(found) if found and found[0] is not None else None
        return _checked(table["row"].to_numpy(), path, ndim=2), named
    if suffix not in KINDS:
        raise unknown(
            "kind of file",
            suffix,
            KINDS,
            where=str(path),
            offer="its name must end in one of",
            more=f", or it is a folder of parquet files; {' '.join(PICKLES)} are not read",
        )
    return _checked(_array(kind, at), path, ndim=2), None


def _array(kind: str, at: Place) -> NDArray[Any]:
    suffix = at.path.suffix.lower()
    if suffix == ".npy":
        if at.member is not None:
            raise InputError(f"{at.path}: holds one array: leave out :{at.member}")
        return read_npy(at.path)
    read = read_npz if suffix == ".npz" else read_safetensors
    return read(at.path, at.member, NAMES[kind])


def _checked(array: NDArray[Any], path: object, *, ndim: int) -> NDArray[np.float32]:
    """As float32. Raises InputError for what cannot be factors, or biases of one dimension."""
    if array.dtype.kind != "f":
        raise InputError(f"{path}: holds {array.dtype}: factors are floats")
    if array.ndim != ndim or 0 in array.shape:
        wanted = "a row for each user or item" if ndim == 2 else "one number a row"
        raise InputError(f"{path}: has shape {array.shape}, not {wanted}")
    if ndim == 2 and array.shape[1] > MAX_WIDTH:
        raise InputError(f"{path}: {array.shape[1]} columns; at most {MAX_WIDTH} are read")
    largest = float(np.abs(array).max())
    if not largest <= MAX_VALUE:
        bad = int((~np.isfinite(array)).sum())
        what = f"{bad} numbers are not finite" if bad else f"numbers up to {largest:.0e}"
        raise InputError(f"{path}: {what}: these are no factors of a trained model")
    return np.ascontiguousarray(array, dtype=np.float32)


def _named(
    kind: str,
    count: int,
    own_ids: tuple[str, ...] | None,
    names: tuple[str, ...],
    at: Place,
) -> tuple[str, ...]:
    """The ids of the rows, from a file of ids. Raises InputError."""
    if len(names) == count + 1 and own_ids is None and _is_heading(names[0]):
        names = names[1:]
    if own_ids is None:
        if len(names) != count:
            raise InputError(f"{at.path}: {len(names)} ids for {count} rows of {kind} factors")
        return names
    rows = [
        int(own) if own.isascii() and own.isdigit() and len(own) < 12 else -1 for own in own_ids
    ]
    bad = [own for own, row in zip(own_ids, rows, strict=True) if not 0 <= row < len(names)]
    if bad:
        raise InputError(
            f"{at.path}: the factors have ids of their own, which then are zero-based rows of this "
            f"file of {len(names)}: {len(bad)} are not, such as {bad[0][:40]!r}"
        )
    return tuple(names[row] for row in rows)


def _is_heading(name: str) -> bool:
    return role_of(name) in ("user", "item") or name.lower() in ID_NAMES


def _biases(
    kind: str, at: Place, own_ids: tuple[str, ...] | None, count: int
) -> NDArray[np.float32]:
    """A number a row, [R], in the rows' order. Raises InputError."""
    names = (f"{kind}_biases", f"{kind}_bias", f"{kind}_bias.weight", "biases", "bias")
    refuse_pickles(at.path)
    suffix = at.path.suffix.lower()
    ids: list[str | None] = [None]
    if suffix == ".parquet" or at.path.is_dir():
        table = read_parquet(at.path, "factors", at.member)
        found, ids = table["row"].to_numpy(), table["id"].to_list()
    elif suffix == ".npz":
        found = read_npz(at.path, at.member, names)
    elif suffix == ".safetensors":
        found = read_safetensors(at.path, at.member, names)
    else:
        found = _array(kind, at) if suffix == ".npy" else _table(kind, at)[0]
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    numbers = _checked(found, at.path, ndim=1)
    if len(numbers) != count:
        raise InputError(f"{at.path}: {len(numbers)} biases for {count} rows of {kind} factors")
    if ids[0] is None:
        return numbers
    # They may be in another order than the rows.
    what, wanted = "ids", own_ids
    if wanted is None:
        what, wanted = "row numbers", tuple(map(str, range(count)))
    by_id = dict(zip(ids, numbers.tolist(), strict=True))
    missing = sum(own not in by_id for own in wanted)
    if missing:
        raise InputError(f"{at.path}: no bias for {missing} of {count} {what} of {kind} factors")
    return np.array([by_id[own] for own in wanted], dtype=np.float32)


def _refuse_repeats(kind: str, names: tuple[str, ...], at: Place) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        # set.add gives None: the first that is seen twice.
        again = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InputError(
            f"{at.path}: {len(names) - len(set(names))} {kind} ids occur twice, such as "
            f"{again[:40]!r}"
        )
