"""Untrusted Parquet and Arrow tables, read in a process of their own.

A single wrong byte can make the reader ask for terabytes, and that ends its process at once:
no exception is raised. So a child reads the file, within bounds of memory and time, and hands
the few columns that are wanted back; what ends the child is one more damaged file.

Run as `python -m server.data.parquet NAME OPTIONS`: the file on stdin, its columns on stdout.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from common.errors import InputError
from common.processes import module_command
from server.data.columns import by_names
from server.data.limits import most_rows
from server.data.reading import MIB, first_line
from server.data.reading_options import ReadingOptions
from server.data.rows import RatingRows, checked

if sys.platform != "win32":
    import resource

MAX_MEMORY_BYTES = 12 * 1024 * MIB
SECONDS = 120.0
# Of a folder of files, packed as they are.
MAX_FOLDER_BYTES = 4096 * MIB
MAX_FILES = 10_000
# How files begin.
PARQUET = b"PAR1"
ARROW = b"ARROW1"
STREAM = b"\xff\xff\xff\xff"
NOTES = "notes"


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files in a folder and the folders in it, but for hidden ones; in order."""
    found = (path for path in folder.rglob("*.parquet") if path.is_file())
    return sorted(
        path
        for path in found
        if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    )


def read_folder(folder: Path, options: ReadingOptions) -> RatingRows:
    """The rows of all parquet files in a folder, which are one table.

    Folders named `column=value` are a column. Raises InputError as parse_table() does.
    """
    files = parquet_files(folder)
    size = sum(path.stat().st_size for path in files)
    if size > MAX_FOLDER_BYTES or len(files) > MAX_FILES:
        raise InputError(
            f"{folder}: {len(files)} parquet files of {size >> 20} MiB: larger than is read; "
            "filter it first"
        )
    where = str(folder.absolute())
    return _parsed(
        read_in_child("server.data.parquet", b"", str(folder), options.to_json(), where),
        str(folder),
        options,
        f"{len(files)} parquet files",
    )


def parse_table(data: bytes, name: str, options: ReadingOptions) -> RatingRows:
    """The rows of a parquet or Arrow table whose ids are text or whole numbers.

    Raises InputError when the file is damaged, holds other columns or types, or is too large
    for the bounds.
    """
    return _parsed(
        read_in_child("server.data.parquet", data, name, options.to_json()), name, options
    )


def _parsed(data: bytes, name: str, options: ReadingOptions, *said: str) -> RatingRows:
    table = pl.read_ipc(io.BytesIO(data))
    # What the child has to say comes as a column of its own, of one value.
    notes = json.loads(table[NOTES][0]) if table.height else []
    return checked(table.drop(NOTES), name, unit="row", options=options, notes=(*said, *notes))


def read_in_child(
    module: str, data: bytes, name: str, *words: str, kind: str = "a parquet file"
) -> bytes:
    """What `python -m MODULE NAME WORDS…` makes of a file's bytes: its stdout.

    The module bounds its memory and ends with 2 and a line on stderr for bad input. Raises
    InputError with that line, and when the process takes too long or does not survive the file.
    """
    command = module_command(module, name, *words)
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{name}: takes longer than {SECONDS:g} s to read") from None
    if done.returncode == InputError.exit_code:
        raise InputError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    if done.returncode != 0:
        raise InputError(f"{name}: not {kind}, or a damaged one")
    return done.stdout


def wanted_columns(data: bytes, name: str) -> pl.DataFrame:
    """`line` (from 1), `user`, `item` (text), `rating`, perhaps `timestamp`, and notes.

    Read in this process, which may not survive it.
    """
    options = ReadingOptions.from_json(sys.argv[2])
    try:
        frames = [scan(data)] if len(sys.argv) < 4 else _scan_folder(Path(sys.argv[3]))
        names = list(frames[0].collect_schema())
        found = by_names(names, name, options)
        columns = {role: names[at] for role, at in found.positions.items()}
        # The row count stands in the footer: known before anything is decompressed.
        rows = sum(each.select(pl.len()).collect().item() for each in frames)
        if rows > (most := most_rows()):
            raise InputError(f"{name}: {rows} rows; there is memory for {most}")
        lazy = pl.concat([_roles(each, columns, name) for each in frames])
        return lazy.select(
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"),
            *columns,
            pl.lit(json.dumps(found.notes)).alias(NOTES),
        ).collect()
    except (PolarsError, PanicException, OSError, ValueError) as error:
        # PanicException is what a panic inside the reader becomes; it is not an Exception.
        kind = "a parquet" if data.startswith(PARQUET) else "a parquet or Arrow"
        raise InputError(f"{name}: not {kind} file ({first_line(error)})") from None


def _scan_folder(folder: Path) -> list[pl.LazyFrame]:
    """By names within the folder, so that no letter in its own name is a pattern.

    What folders are named is text, whatever it looks like: 007 is no 7.
    """
    os.chdir(folder)
    files = parquet_files(Path())
    named = {part.partition("=")[0] for path in files for part in path.parts[:-1] if "=" in part}
    return [
        pl.scan_parquet(
            path,
            hive_partitioning=bool(named),
            hive_schema=dict.fromkeys(named, pl.String) if named else None,
            glob=False,
        )
        for path in files
    ]


def _roles(lazy: pl.LazyFrame, columns: Mapping[str, str], name: str) -> pl.LazyFrame:
    """The columns of the roles, of the same types in every file."""
    schema = lazy.collect_schema()
    for role, column in columns.items():
        if column not in schema:
            raise InputError(f"{name}: one of the files has no column {column[:40]!r}")
        _refuse_type(name, role, column, schema[column])
    for column in (columns[role] for role in ("user", "item")):
        if schema[column].is_float() and not lazy.select(_whole(column)).collect().item():
            raise InputError(f"{name}: column {column[:40]!r} has fractions, which are no ids")
    return lazy.select(_as_role(role, column, schema) for role, column in columns.items())


def _whole(column: str) -> pl.Expr:
    number = pl.col(column)
    return ((number.floor() == number) & (number.abs() <= 2**53)).fill_null(True).all()


def scan(data: bytes) -> pl.LazyFrame:
    """By how it begins: files of Arrow, streams of Arrow, and all others as parquet."""
    if data.startswith(ARROW):
        return pl.scan_ipc(io.BytesIO(data))
    if data.startswith(STREAM):
        return pl.read_ipc_stream(io.BytesIO(data)).lazy()
    return pl.scan_parquet(io.BytesIO(data))


def _refuse_type(name: str, role: str, column: str, kind: pl.DataType) -> None:
    text_like = isinstance(kind, pl.String | pl.Categorical | pl.Enum)
    # Older writers mark no text as text; pandas writes whole numbers with gaps as floats.
    of_ids = text_like or kind.is_integer() or kind.is_float() or isinstance(kind, pl.Binary)
    fits = {
        "user": of_ids,
        "item": of_ids,
        "rating": kind.is_numeric() or text_like or isinstance(kind, pl.Boolean),
        "timestamp": kind.is_numeric() or isinstance(kind, pl.Datetime | pl.Date | pl.String),
    }
    if not fits[role]:
        raise InputError(f"{name}: column {column[:40]!r} is {kind}, which is no {role}")


def _as_role(role: str, column: str, schema: pl.Schema) -> pl.Expr:
    expression, kind = pl.col(column), schema[column]
    if role in ("user", "item"):
        if kind.is_float():
            expression = expression.cast(pl.Int64)
        expression = expression.cast(pl.String)
    elif role == "rating":
        if isinstance(kind, pl.Boolean):
            expression = expression.cast(pl.Int8)
        text = isinstance(kind, pl.String | pl.Categorical | pl.Enum)
        expression = expression.cast(pl.String if text else pl.Float64)
    elif isinstance(kind, pl.Datetime | pl.Date):
        expression = expression.dt.epoch("s")
    elif kind.is_integer():
        expression = expression.cast(pl.Int64)
    return expression.alias(role)


def bound_memory() -> None:
    """Hold this process, which reads an untrusted file, to MAX_MEMORY_BYTES."""
    if sys.platform != "win32":
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        # An abort is expected here; it should leave no memory image behind.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def child(read: Callable[[bytes, str], pl.DataFrame]) -> int:
    """The child: 0 and what `read` gives on stdout, or 2 and one line on stderr."""
    bound_memory()
    try:
        table = read(sys.stdin.buffer.read(), sys.argv[1])
    except InputError as error:
        sys.stderr.write(f"\n{' '.join(str(error).split())}\n")
        return error.exit_code
    table.write_ipc(sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(child(wanted_columns))
