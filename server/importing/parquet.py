"""Factors and ids in untrusted Parquet files, read in a process of their own.

As server.data.parquet reads ratings. A folder is what Spark writes: part files, whose rows are in
any order.

Run as `python -m server.importing.parquet NAME KIND [COLUMN]`: the file on stdin, its table on
stdout.

Shapes: R rows, d columns.
"""

import io
import sys
from pathlib import Path
from typing import Final, Literal

import polars as pl
from polars.exceptions import PanicException, PolarsError

from common.errors import InputError
from server.data.columns import role_of
from server.data.limits import most_rows
from server.data.parquet import bound_memory, read_in_child
from server.data.reading import first_line
from server.importing.arrays import MAX_BYTES, checked_size

MODULE: Final = "server.importing.parquet"
MAX_PARTS: Final = 10_000
# Of all parts, decompressed.
MAX_TABLE_BYTES: Final = 2 * MAX_BYTES
# Beside the names that rating files have: Spark's, and what pandas calls an index without a name.
ID_NAMES: Final = ("id", "index", "token", "__index_level_0__")
Kind = Literal["factors", "ids"]


def read_parquet(path: Path, kind: Kind, column: str | None = None) -> pl.DataFrame:
    """The rows of a file, or of all part files in a folder.

    factors  columns `id` (text; null where the file has none) and `row`, an array of d numbers:
             one column of lists as Spark writes it, or a column for each number
    ids      column `id`
    column   which one holds the numbers, or the ids; None finds it

    Raises InputError.
    """
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not parts:
        raise InputError(f"{path}: a folder without .parquet files")
    if len(parts) > MAX_PARTS or sum(map(checked_size, parts)) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_PARTS} files or {MAX_BYTES >> 30} GiB")
    tables, size = [], 0
    words = [kind] if column is None else [kind, column]
    for part in parts:
        data = read_in_child(MODULE, part.read_bytes(), str(part), *words)
        # A small part may hold a large table, and there may be many.
        size += len(data)
        if size > MAX_TABLE_BYTES:
            raise InputError(f"{path}: its tables are larger than {MAX_TABLE_BYTES >> 30} GiB")
        tables.append(pl.read_ipc(io.BytesIO(data)))
    # A part without rows does not know how long its lists are.
    tables = [table for table in tables if table.height] or tables[:1]
    if any(table.schema != tables[0].schema for table in tables):
        raise InputError(f"{path}: its files hold tables of different columns")
    return pl.concat(tables)


def wanted(data: bytes, name: str, kind: str, column: str | None) -> pl.DataFrame:
    """What `read_parquet` returns of one file, read in this process, which may not survive it."""
    try:
        lazy = pl.scan_parquet(io.BytesIO(data))
        schema = lazy.collect_schema()
        # The row count stands in the footer: known before anything is decompressed.
        if (rows := lazy.select(pl.len()).collect().item()) > (most := most_rows()):
            raise InputError(f"{name}: {rows} rows; there is memory for {most}")
        if column is not None and column not in schema:
            raise InputError(f"{name}: no column {column[:40]!r} among {_listed(schema)}")
        if kind == "ids":
            return lazy.select(_id(name, column or _only_id(name, schema), schema)).collect()
        numbers = [column] if column is not None else _numbers(name, schema)
        ids = [each for each in _id_columns(schema) if each not in numbers]
        named = _id(name, ids[0], schema) if ids else pl.lit(None, pl.String).alias("id")
        table = lazy.select(named, *(pl.col(each).alias(f"_{each}") for each in numbers)).collect()
        return table.select("id", _rows(name, table.drop("id")))
    except (PolarsError, PanicException, OSError, ValueError) as error:
        # PanicException is what a panic inside the reader becomes; it is not an Exception.
        raise InputError(f"{name}: not a parquet file ({first_line(error)})") from None


def _id_columns(schema: pl.Schema) -> list[str]:
    return [
        each
        for each, kind in schema.items()
        if (each.lower() in ID_NAMES or role_of(each) in ("user", "item"))
        and (kind == pl.String or kind.is_integer() or isinstance(kind, pl.Categorical | pl.Enum))
    ]


def _only_id(name: str, schema: pl.Schema) -> str:
    found = _id_columns(schema) or list(schema)
    if len(found) != 1:
        raise InputError(f"{name}: write which column holds the ids, as {Path(name).name}:COLUMN")
    return found[0]


def _id(name: str, column: str, schema: pl.Schema) -> pl.Expr:
    kind = schema[column]
    if not (kind == pl.String or kind.is_integer() or isinstance(kind, pl.Categorical | pl.Enum)):
        raise InputError(f"{name}: column {column[:40]!r} is {kind}: ids are text or whole numbers")
    return pl.col(column).cast(pl.String).alias("id")


def _numbers(name: str, schema: pl.Schema) -> list[str]:
    lists = [each for each, kind in schema.items() if isinstance(kind, pl.List | pl.Array)]
    if len(lists) == 1:
        return lists
    found = [each for each, kind in schema.items() if kind.is_float()]
    if lists or not found:
        raise InputError(
            f"{name}: give one column of lists of numbers, or a column of floats for each, not "
            f"{_listed(schema)}"
        )
    return found


def _rows(name: str, table: pl.DataFrame) -> pl.Expr:
    """The columns of `table` as one column `row` of arrays of float32."""
    first = table.dtypes[0]
    if not isinstance(first, pl.List | pl.Array):
        return pl.concat_arr(pl.col(table.columns).cast(pl.Float32)).alias("row")
    if not first.inner.is_float():
        raise InputError(f"{name}: its lists hold {first.inner}: factors are floats")
    values = table.to_series(0)
    lists = values if isinstance(first, pl.List) else values.arr.to_list()
    widths = lists.list.len().unique().to_list()
    if len(widths) > 1 or None in widths:
        raise InputError(f"{name}: its lists are of different lengths, or some are missing")
    width = int(widths[0]) if widths else 0
    if widths and width == 0:
        raise InputError(f"{name}: its lists are empty")
    return pl.col(table.columns[0]).cast(pl.Array(pl.Float32, width)).alias("row")


def _listed(schema: pl.Schema) -> str:
    names = list(schema)
    return ", ".join(each[:30] for each in names[:8]) + (", …" if len(names) > 8 else "")


def main() -> int:
    """The child: 0 and the table on stdout, or 2 and one line on stderr."""
    bound_memory()
    name, kind, *column = sys.argv[1:]
    try:
        table = wanted(sys.stdin.buffer.read(), name, kind, column[0] if column else None)
    except InputError as error:
        sys.stderr.write(f"\n{' '.join(str(error).split())}\n")
        return error.exit_code
    table.write_ipc(sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
