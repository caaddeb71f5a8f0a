"""Ratings that are in memory already: data frames, arrays, sparse matrices.

Columns are found by what they can do, not by their library, so that polars, pandas and numpy all
will do. Ids stay text or whole numbers, as they are.

Shapes: N rows, U users, I items.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from server.data.columns import ROLES, by_names, role_of
from server.data.datasets import Dataset
from server.data.layouts import with_layout
from server.data.reading_options import ReadingOptions
from server.data.rows import FixedIds, checked

NEEDED: Final = ROLES[:3]
# Options that a file of text has, and nothing in memory.
OF_TEXT: Final = ("fields", "separator", "skip_lines", "header", "encoding", "member", "test")
FORMS: Final = (
    "a polars or pandas frame, a dict or a structured array with columns user, item, rating and "
    "perhaps timestamp, a tuple of such arrays, or a scipy sparse matrix"
)


def dataset_in_memory(
    source: object, *, name: str | None = None, reading: ReadingOptions | None = None
) -> Dataset:
    """A data set from anything of FORMS.

    Columns are found by the names that files may use. Where no column has such a name, the first
    three are user, item and rating. Raises InputError for anything else, and as a file would for
    what it holds.
    """
    reading = reading or ReadingOptions()
    options = with_layout(reading)
    for option in OF_TEXT:
        if getattr(reading, option) is not None:
            raise InputError(f"{option.replace('_', ' ')}: is for files; leave it out")
    if isinstance(source, Dataset | RatingMatrix) and reading:
        raise InputError(f"these ratings are read already: leave out {', '.join(reading.told())}")
    if isinstance(source, Dataset):
        return source
    if isinstance(source, RatingMatrix):
        return Dataset(name or "ratings", source, None, None, "a rating matrix")
    if hasattr(source, "tocoo"):
        return _of_sparse(source, name or "matrix", options)
    if isinstance(source, pl.LazyFrame):
        source = source.collect()
    kind, columns = _columns(source, options)
    title = name or kind
    raw: dict[str, pl.Series] = {}
    texts = set()
    for role, values in columns.items():
        if role in ("user", "item"):
            raw[role], is_text = _ids(values, f"{kind}: column {role}")
            texts |= {role} if is_text else set()
        else:
            raw[role] = _numbers(values, f"{kind}: column {role}")
    if len({len(values) for values in raw.values()}) > 1:
        lengths = ", ".join(f"{role} {len(values)}" for role, values in raw.items())
        raise InputError(f"{kind}: columns of different lengths: {lengths}")
    table = pl.DataFrame(raw).with_row_index("line")
    indexed = checked(table, kind, unit="row", options=options).indexed()
    return Dataset(
        title,
        indexed.ratings,
        indexed.timestamps,
        None,
        f"{kind} of {table.height} rows",
        frozenset(texts),
        reading,
        indexed.notes,
        indexed.doubts,
        indexed.shift,
    )


def _columns(source: Any, options: ReadingOptions) -> tuple[str, dict[str, Any]]:
    """What it is called in messages, and its columns by role."""
    # No list: one of rows is as likely as one of columns.
    if isinstance(source, tuple) and len(source) in ((2, 3, 4) if options.implicit else (3, 4)):
        return "arrays", dict(zip(ROLES, source, strict=False))
    names: list[Any]
    if isinstance(source, Mapping):
        kind, names = "dict", list(source)
    elif isinstance(source, np.ndarray) and source.dtype.names:
        kind, names = "structured array", list(source.dtype.names)
    elif hasattr(source, "columns") and hasattr(source, "__getitem__"):
        kind, names = "data frame", list(source.columns)
    else:
        shape = f" of shape {source.shape}" if isinstance(source, np.ndarray) else ""
        raise InputError(f"data: a {type(source).__name__}{shape}: give {FORMS}")
    if options.columns is None and not any(role_of(str(each)) for each in names):
        # Frames without names that say anything have user, item and rating in this order.
        options = replace(options, columns=ROLES[: min(len(NEEDED), len(names))])
    found = by_names([str(each) for each in names], kind, options)
    return kind, {role: source[names[at]] for role, at in found.positions.items()}


def _ids(values: Any, where: str) -> tuple[pl.Series, bool]:
    """As text, missing ones null; and whether they were text."""
    array = _array(values, where)
    if array.dtype.kind in "iu":
        return pl.Series(array).cast(pl.String), False
    if array.dtype.kind == "f":
        # Whole numbers with gaps are floats in pandas.
        there = np.isfinite(array)
        if (array[there] != np.floor(array[there])).any():
            raise InputError(f"{where}: ids are text or whole numbers, not fractions")
        texts = [str(int(value)) if ok else None for value, ok in zip(array, there, strict=True)]
        return pl.Series(texts, dtype=pl.String), False
    names: list[str | None] = []
    text = False
    for value in array.tolist():
        if isinstance(value, str | int | np.integer) and not isinstance(value, bool):
            text |= isinstance(value, str)
            names.append(str(value))
        elif value is None or _is_missing(value):
            names.append(None)
        else:
            raise InputError(
                f"{where}: ids are text or whole numbers, not a {type(value).__name__}"
            )
    return pl.Series(names, dtype=pl.String), text


def _is_missing(value: Any) -> bool:
    """NaN, or pandas' NA."""
    return type(value).__name__ == "NAType" or (isinstance(value, float) and np.isnan(value))


def _numbers(values: Any, where: str) -> pl.Series:
    array = _array(values, where)
    if array.dtype.kind == "M":
        array = array.astype("datetime64[s]").astype(np.int64)
    if array.dtype.kind == "b":
        raise InputError(f"{where}: holds true and false: give numbers")
    if array.dtype.kind in "iuf":
        return pl.Series(array)
    # Missing, or not a number: said with its row.
    texts = [None if value is None else str(value) for value in array.tolist()]
    return pl.Series(texts, dtype=pl.String)


def _array(values: Any, where: str) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        # What lies under a mask is no value.
        hidden, values = np.ma.getmaskarray(values), np.ma.getdata(values).astype(object)
        values[hidden] = None
    try:
        array: NDArray[Any] = np.asarray(values)
    except (TypeError, ValueError):
        raise InputError(f"{where}: holds other things than values") from None
    if array.ndim != 1:
        raise InputError(f"{where}: has shape {array.shape}, not one value a rating")
    return array


def _of_sparse(source: Any, name: str, options: ReadingOptions) -> Dataset:
    """Rows are users, columns items, ids the indices. 0 is unrated, also where it is stored."""
    matrix = source.tocoo()
    if matrix.data.dtype.kind == "b":
        raise InputError("sparse matrix: holds true and false: give numbers")
    stored = np.flatnonzero(matrix.data)
    columns = (matrix.row[stored], matrix.col[stored], matrix.data[stored])
    table = pl.DataFrame(
        {
            role: pl.Series(np.asarray(values)).cast(kind)
            for role, values, kind in zip(
                NEEDED, columns, (pl.String, pl.String, pl.Float64), strict=True
            )
        }
    ).with_row_index("line")
    rows = checked(table, "sparse matrix", unit="entry", options=options)
    users, items = matrix.shape
    indexed = rows.indexed(ids=FixedIds(0, users, items))
    return Dataset(
        name,
        indexed.ratings,
        None,
        None,
        f"sparse matrix {users} × {items}",
        reading=options,
        notes=indexed.notes,
        shift=indexed.shift,
    )
