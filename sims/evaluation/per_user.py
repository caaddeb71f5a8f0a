"""Each user's outcome under each condition, as a frame and as a Parquet file.

What came of a user in one row, and what was asked in every row, so that a file alone says what it
is of. Files are untrusted: a process of its own reads them (server.data.parquet).

Run as `python -m sims.evaluation.per_user NAME`: the file on stdin, its columns on stdout.

Shapes: B users, t target items.
"""

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from polars.exceptions import PanicException, PolarsError

from common.errors import InputError
from common.files import write_output
from common.ids import Names
from common.names import unknown
from common.text import one_line
from server.data.parquet import child, read_in_child
from server.data.reading import MIB, first_line, read_file
from sims.evaluation.metrics import Population
from sims.evaluation.outcomes import NOTHING, Outcomes
from sims.evaluation.pairing import UserResults

FORMAT: Final = 1
MAX_BYTES: Final = 1024 * MIB
MAX_ROWS: Final = 20_000_000
MAX_TARGETS: Final = 1000

# What was asked, the same in every row; `targets` are item indices with spaces between.
ASKED: Final[dict[str, pl.DataType]] = {
    "format": pl.Int32(),
    "dataset": pl.String(),
    "digest": pl.String(),
    "model": pl.String(),
    "attack": pl.String(),
    "defense": pl.String(),
    "preset": pl.String(),
    "seed": pl.Int64(),
    "list_length": pl.Int32(),
    "targets": pl.String(),
    "goal": pl.String(),
}
# What came of it; null where there is nothing to tell.
FOUND: Final[dict[str, pl.DataType]] = {
    "user": pl.Int64(),
    "condition": pl.String(),
    "rank": pl.Int32(),
    "liked": pl.Boolean(),
    "tail": pl.Boolean(),
    "hits": pl.Int32(),
    "eligible": pl.Int32(),
    "target_ranks": pl.List(pl.Int32()),
    "shown": pl.Int32(),
    "unsupported": pl.Int32(),
    "group": pl.Int32(),
    "inside": pl.Boolean(),
}
SCHEMA: Final = FOUND | ASKED
# What users and targets are called; files of before lack it.
CALLED: Final[dict[str, pl.DataType]] = {
    "user_id": pl.String(),
    "target_ids": pl.List(pl.String()),
    "target_titles": pl.List(pl.String()),
}


def frame_of(
    outcomes: Mapping[str, Outcomes],
    population: Population,
    asked: Mapping[str, Any],
    *,
    users: Names,
    targets: Sequence[Mapping[str, Any]],
) -> pl.DataFrame:
    """A row for each condition, or baseline, and user; `asked` has the keys of ASKED but format.

    users    what they are called
    targets  the same, as Names.told has it
    """
    told = {"format": FORMAT, **asked}
    constant = [pl.lit(told[name], dtype=kind).alias(name) for name, kind in ASKED.items()]
    parts = [_frame_of(name, one, population) for name, one in outcomes.items()]
    frame = pl.concat(parts)
    called = [
        pl.Series(name, [[each[key] for each in targets]], dtype=CALLED[name]).new_from_index(
            0, frame.height
        )
        for name, key in (("target_ids", "id"), ("target_titles", "title"))
    ]
    names = pl.Series("user_id", map(users.id_of, frame["user"].to_list()), dtype=pl.String)
    return frame.with_columns(*constant, names, *called)


def _frame_of(name: str, outcomes: Outcomes, population: Population) -> pl.DataFrame:
    inside = population.inside
    return pl.DataFrame(
        {
            "user": outcomes.users,
            "condition": [name] * len(outcomes.users),
            "rank": _or_null(outcomes.ranks),
            "liked": outcomes.liked,
            "tail": population.tail & outcomes.asked,
            "hits": outcomes.hits().sum(axis=1),
            "eligible": outcomes.eligible.sum(axis=1),
            "target_ranks": outcomes.target_ranks.tolist(),
            "shown": outcomes.lengths,
            "unsupported": _or_null(outcomes.unsupported),
            "group": population.groups,
            "inside": [None] * len(outcomes.users) if inside is None else inside,
        },
        schema=FOUND,
        strict=False,
    )


def _or_null(values: np.ndarray[Any, np.dtype[np.int32]]) -> pl.Series:
    series = pl.Series(values)
    return series.set(series == NOTHING, None)


def write_per_user(path: Path, frame: pl.DataFrame) -> None:
    """Whole or not at all. Raises OSError."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    write_output(path, buffer.getvalue())


def read_per_user(path: Path) -> pl.DataFrame:
    """What write_per_user wrote. Raises InputError for any other file, also a damaged one."""
    data = read_file(path, limit=MAX_BYTES)
    return pl.read_ipc(io.BytesIO(read_in_child("sims.evaluation.per_user", data, str(path))))


def columns_of(data: bytes, name: str) -> pl.DataFrame:
    """What `read_per_user` returns, read in this process, which may not survive it."""
    try:
        lazy = pl.scan_parquet(io.BytesIO(data))
        schema = lazy.collect_schema()
        for column, kind in SCHEMA.items():
            if schema.get(column) != kind:
                raise InputError(
                    f"{name}: no file of `vicinal evaluate --per-user`: its column {column} is "
                    f"{'missing' if column not in schema else 'of another type'}"
                )
        if (rows := lazy.select(pl.len()).collect().item()) > MAX_ROWS:
            raise InputError(f"{name}: {rows} rows; at most {MAX_ROWS} are read")
        called = [column for column, kind in CALLED.items() if schema.get(column) == kind]
        return lazy.select([*SCHEMA, *called]).collect()
    except (PolarsError, PanicException, OSError, ValueError) as error:
        # PanicException is what a panic inside the reader becomes; it is not an Exception.
        raise InputError(f"{name}: not a parquet file ({first_line(error)})") from None


def results_of(frame: pl.DataFrame, condition: str, *, name: str = "per user") -> UserResults:
    """One condition of a frame, with users ascending.

    Raises InputError for a condition that is not in it, and for rows that contradict each other.
    """
    rows = frame.filter(pl.col("condition") == condition).sort("user")
    if rows.is_empty():
        known = frame["condition"].drop_nulls().unique(maintain_order=True).to_list()
        raise unknown("condition", condition, [str(each)[:40] for each in known[:20]], where=name)
    asked = _asked(rows, name)
    outcomes = _outcomes(rows, asked, name)
    inside = rows["inside"]
    population = Population(
        rows["group"].fill_null(0).to_numpy().astype(np.int64),
        rows["tail"].to_numpy(),
        None if inside.null_count() else inside.to_numpy(),
        asked["goal"],
    )
    return UserResults(condition, asked, outcomes, population)


def _asked(rows: pl.DataFrame, name: str) -> dict[str, Any]:
    """What was asked, which all rows have to agree on. Raises InputError."""
    told = rows.select(list(ASKED))
    if told.n_unique() != 1 or sum(told.null_count().row(0)):
        raise _damaged(name, "its rows are of several evaluations")
    asked = told.row(0, named=True)
    if asked["format"] != FORMAT:
        raise InputError(
            f"{name}: per-user results of format {asked['format']}, written by another version of "
            f"vicinal; this one reads format {FORMAT}"
        )
    if asked["goal"] not in ("promote", "demote") or asked["list_length"] < 1:
        raise _damaged(name, "its goal or list length is none")
    for key in ("dataset", "model", "attack", "defense", "preset"):
        asked[key] = one_line(asked[key], 80)
    return asked


def _outcomes(rows: pl.DataFrame, asked: dict[str, Any], name: str) -> Outcomes:
    # Without these no number can be told.
    whole = ("user", "liked", "tail", "hits", "eligible", "target_ranks", "shown")
    if sum(rows.select(whole).null_count().row(0)):
        raise _damaged(name, "a row lacks a number")
    users = rows["user"].to_numpy()
    if len(users) > 1 and (np.diff(users) <= 0).any():
        raise _damaged(name, "a user has two rows of one condition")
    width = len(asked["targets"].split())
    lengths = rows["target_ranks"].list.len()
    if width > MAX_TARGETS or lengths.min() != width or lengths.max() != width:
        raise _damaged(name, "its ranks are not one for each target")
    flat = rows["target_ranks"].explode() if width else pl.Series([], dtype=pl.Int32)
    outcomes = Outcomes(
        users,
        asked["list_length"],
        rows["rank"].fill_null(NOTHING).to_numpy().astype(np.int32),
        rows["liked"].to_numpy(),
        flat.fill_null(NOTHING).to_numpy().astype(np.int32).reshape(len(users), width),
        rows["shown"].to_numpy().astype(np.int32),
        rows["unsupported"].fill_null(NOTHING).to_numpy().astype(np.int32),
        np.empty(0, dtype=np.int64),
    )
    least = (outcomes.ranks, outcomes.target_ranks, outcomes.unsupported, outcomes.lengths)
    if any(part.size and part.min() < NOTHING for part in least):
        raise _damaged(name, "a rank lies below 0")
    wrong = (outcomes.liked & ~outcomes.asked) | (outcomes.unsupported > outcomes.lengths)
    wrong |= outcomes.lengths > outcomes.list_length
    for column, sums in (("hits", outcomes.hits()), ("eligible", outcomes.eligible)):
        wrong |= rows[column].to_numpy() != sums.sum(axis=1)
    if wrong.any():
        raise _damaged(name, "a row contradicts itself")
    return outcomes


def _damaged(name: str, reason: str) -> InputError:
    return InputError(f"{name}: damaged ({reason}); measure again with --per-user")


if __name__ == "__main__":
    sys.exit(child(columns_of))
