"""Profiles files: ratings of additional users, wherever they come from.

An attack is such a file. The server trains on ratings and profiles alike and does not know
which rows are fakes. The file is CSV with a header of comments:

    # vicinal profiles 1
    # targets: 1485 1320 821
    # …any further key: value
    user,item,rating

Users count from 0 within the file, items are the data set's zero-based indices, ratings are
in the data set's units.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from common.errors import InputError
from common.files import write_file
from common.ratings import RatingMatrix, RatingScale

MAX_BYTES: Final = 256 << 20
_MAGIC: Final = "# vicinal profiles 1"
_COLUMNS: Final = "user,item,rating"


@dataclass(frozen=True)
class Profiles:
    """Rows of fake users over a data set's items, and what they promote.

    notes   how the file came about: attack, seed, budget, source_digest (of the ratings
            that were attacked)
    """

    ratings: RatingMatrix
    targets: tuple[int, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.targets)) != len(self.targets):
            raise InputError("profiles: a target is named twice")
        for target in self.targets:
            if not 0 <= target < self.ratings.item_count:
                raise InputError(
                    f"profiles: target {target} is not an item (0–{self.ratings.item_count - 1})"
                )


def write_profiles(path: Path, profiles: Profiles) -> None:
    """Write a profiles file, whole or not at all. Raises OSError."""
    body = _body(profiles.ratings)
    notes = {
        "targets": " ".join(map(str, profiles.targets)),
        **profiles.notes,
        "digest": hashlib.sha256(body.encode()).hexdigest(),
    }
    header = "".join(f"# {key}: {value}\n" for key, value in notes.items())
    write_file(path, f"{_MAGIC}\n{header}{body}".encode())


def _body(ratings: RatingMatrix) -> str:
    values = ratings.scale.values[ratings.levels]
    rows = zip(ratings.users.tolist(), ratings.items.tolist(), values.tolist(), strict=True)
    return _COLUMNS + "\n" + "".join(f"{user},{item},{value:g}\n" for user, item, value in rows)


def read_profiles(
    path: Path, item_count: int, scale: RatingScale, *, targets: tuple[int, ...] | None = None
) -> Profiles:
    """Read a profiles file, or a .npy table [fakes, I] of ratings ÷ maximum (0 unrated).

    `targets` replaces the file's own. Raises InputError with file, line and reason.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such profiles file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
    if path.suffix == ".npy":
        ratings, notes = _read_table(path, item_count, scale), {"attack": path.name}
    else:
        ratings, notes = _read_csv(path, item_count, scale)
    if targets is None:
        try:
            targets = tuple(int(word) for word in notes.pop("targets", "").split())
        except ValueError as error:
            raise InputError(f"{path}: targets are not item indices") from error
    if not targets:
        raise InputError(f"{path}: names no targets; give them with --targets 1485,1320,…")
    if ratings.user_count == 0:
        raise InputError(f"{path}: holds no profile")
    notes.setdefault("attack", path.name)
    return Profiles(ratings, targets, notes)


def _read_csv(
    path: Path, item_count: int, scale: RatingScale
) -> tuple[RatingMatrix, dict[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file") from error
    start = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    notes = {}
    for line in lines[:start]:
        key, colon, value = line.removeprefix("#").partition(":")
        if colon:
            notes[key.strip()] = value.strip()
    if start == len(lines) or lines[start].replace(" ", "") != _COLUMNS:
        raise InputError(f"{path}:{start + 1}: expected the column names {_COLUMNS}")
    body = "\n".join(lines[start:]) + "\n"
    digest = notes.pop("digest", None)
    if digest is not None and digest != hashlib.sha256(body.encode()).hexdigest():
        raise InputError(f"{path}: damaged: its rows do not match its digest")
    users, items, levels = [], [], []
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        try:
            user, item, rating = line.split(",")
            users.append(int(user))
            items.append(int(item))
            levels.append(int(scale.levels(float(rating))))
        except (ValueError, OverflowError) as error:
            raise InputError(f"{path}:{number}: not user,item,rating: {line[:60]!r}") from error
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error
        if users[-1] < 0 or not 0 <= items[-1] < item_count:
            raise InputError(
                f"{path}:{number}: users count from 0, items lie in 0–{item_count - 1}"
            )
    names, rows = np.unique(np.array(users, dtype=np.int64), return_inverse=True)
    try:
        ratings = RatingMatrix.from_triples(
            rows, items, levels, user_count=len(names), item_count=item_count, scale=scale
        )
    except InputError as error:
        raise InputError(f"{path}: a profile rates an item twice") from error
    return ratings, notes


def _read_table(path: Path, item_count: int, scale: RatingScale) -> RatingMatrix:
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a .npy table of numbers") from error
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.shape[1] != item_count:
        raise InputError(f"{path}: expected a table of fakes × {item_count} items")
    if table.dtype.kind not in "fiu" or not np.isfinite(table).all():
        raise InputError(f"{path}: holds values that are not numbers")
    users, items = np.nonzero(table)
    try:
        levels = scale.levels(table[users, items] * scale.maximum)
    except InputError as error:
        raise InputError(f"{path}: {error} (values are ratings ÷ {scale.maximum:g})") from error
    return RatingMatrix.from_triples(
        users, items, levels, user_count=len(table), item_count=item_count, scale=scale
    )
