"""Profiles files: ratings of additional users, wherever they come from.

An attack is such a file. The server trains on ratings and profiles alike and does not know
which rows are fakes. The file is CSV with a header of comments:

    # vicinal profiles 1
    # targets: 1485 1320 821
    # goal: demote
    # audience: 3 17 44
    # …any further key: value
    user,item,rating

Users count from 0 within the file, items are the data set's zero-based indices, ratings are
in the data set's units. Without a goal the targets are promoted; without an audience they are
meant for everybody. Files of other forms are read, too (sims.attacks.foreign).
"""

import hashlib
import tokenize
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.files import write_output
from common.names import unknown
from common.ratings import RatingMatrix, RatingScale
from common.text import one_line
from server.data.reading import read_file
from sims.attacks.budget import Goal
from sims.attacks.entries import MAX_RATINGS, refuse_more
from sims.attacks.foreign import read_array, read_text
from sims.attacks.foreign_json import read_json

MAX_BYTES: Final = 256 << 20
MAX_USER: Final = 2**63 - 1
# A message names no more items than this.
MOST_SUGGESTED: Final = 20
MOST_COMMENTS: Final = 1000
# Characters: lists of targets are among the notes.
MOST_OF_NOTE: Final = 100_000
# Where str.splitlines splits UTF-8.
LINE_ENDS: Final = tuple(each.encode() for each in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
_MAGIC: Final = "# vicinal profiles 1"
_COLUMNS: Final = "user,item,rating"
# What numpy raises for bytes that only look like .npy, found by writing such bytes.
_NOT_A_TABLE: Final = (
    ValueError,
    OSError,
    EOFError,
    OverflowError,
    TypeError,
    SyntaxError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, repr=False)
class Profiles:
    """Rows of fake users over a data set's items, and what they promote.

    notes     how the file came about: attack, seed, budget, source_digest (of the ratings
              that were attacked)
    goal      whether the targets are to be shown to more users, or to fewer
    audience  real users who are aimed at, by index, ascending; nobody named is everybody

    Raises InputError for a target that is no item, an audience that is no list of users, anything
    named twice, and an unknown goal.
    """

    ratings: RatingMatrix
    targets: tuple[int, ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    goal: Goal = "promote"
    audience: tuple[int, ...] = ()

    def __repr__(self) -> str:
        named = {key: self.notes[key] for key in ("attack", "options", "seed") if key in self.notes}
        about = ", ".join(f"{key} {value}" for key, value in named.items())
        targets = ", ".join(map(str, self.targets))
        ratings = self.ratings
        return (
            f"Profiles({about}{': ' if about else ''}{ratings.user_count} fakes, "
            f"{len(ratings)} ratings, targets {targets}; digest {ratings.digest()[:12]})"
        )

    def __post_init__(self) -> None:
        if len(set(self.targets)) != len(self.targets):
            raise InputError("a target is named twice")
        for target in self.targets:
            if not 0 <= target < self.ratings.item_count:
                raise InputError(
                    f"target {target} is not an item (0–{self.ratings.item_count - 1})"
                )
        if self.goal not in get_args(Goal):
            raise unknown("goal", self.goal, get_args(Goal))
        if any(user < 0 for user in self.audience):
            raise InputError("audience: users count from 0")
        if list(self.audience) != sorted(set(self.audience)):
            raise InputError("audience: name users in ascending order, each once")


def write_profiles(path: Path, profiles: Profiles) -> None:
    """Write a profiles file, whole or not at all. Raises OSError."""
    body = _body(profiles.ratings)
    notes = {
        "targets": " ".join(map(str, profiles.targets)),
        **({"goal": profiles.goal} if profiles.goal != "promote" else {}),
        **({"audience": " ".join(map(str, profiles.audience))} if profiles.audience else {}),
        **profiles.notes,
        "digest": hashlib.sha256(body.encode()).hexdigest(),
    }
    header = "".join(f"# {key}: {value}\n" for key, value in notes.items())
    write_output(path, f"{_MAGIC}\n{header}{body}".encode())


def _body(ratings: RatingMatrix) -> str:
    values = ratings.scale.values[ratings.levels]
    rows = zip(ratings.users.tolist(), ratings.items.tolist(), values.tolist(), strict=True)
    return _COLUMNS + "\n" + "".join(f"{user},{item},{value:g}\n" for user, item, value in rows)


def read_profiles(
    path: Path, item_count: int, scale: RatingScale, *, targets: tuple[int, ...] | None = None
) -> Profiles:
    """Read a profiles file, or one in another form that such files have (sims.attacks.foreign).

    `targets` replaces the file's own. The note `read_as` says what was taken where a file does not
    say it. Raises InputError with file, line and reason.
    """
    ratings, notes = _read(path, item_count, scale)
    named, goal = notes.pop("targets", ""), notes.pop("goal", "promote")
    audience = _indices(path, "audience", notes.pop("audience", ""), "users")
    if ratings.user_count == 0:
        raise InputError(f"{path}: holds no profile")
    if targets is None:
        targets = _indices(path, "targets", named, "items")
        if not targets:
            raise InputError(f"{path}: names no targets; give them with {_suggested(ratings)}")
    notes.setdefault("attack", path.name)
    try:
        return Profiles(ratings, targets, notes, cast(Goal, goal), audience)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path, item_count: int, scale: RatingScale) -> tuple[RatingMatrix, dict[str, str]]:
    """The ratings and all that the file says beside them."""
    data = read_file(path, limit=MAX_BYTES)
    notes: dict[str, str] = {}
    try:
        if path.suffix == ".npy":
            read = read_array(_table(path), item_count, scale)
        elif _is_json(path, data):
            read = read_json(data, item_count, scale)
        else:
            lines, start, notes = _comments(path, data)
            # With a comment above them these column names are our form, held to the letter.
            if 0 < start < len(lines) and lines[start].replace(" ", "") == _COLUMNS:
                return _parse_csv(path, lines, start, notes, item_count, scale), notes
            read = read_text(lines, start, item_count, scale, nameless=start == 0)
    except InputError as error:
        # Some begin with the line, others with what is wrong, and some have the path already.
        text = str(error)
        if text.startswith(str(path)):
            raise
        raise InputError(f"{path}{'' if text.startswith(':') else ': '}{text}") from error
    said = {key: one_line(value, MOST_OF_NOTE) for key, value in read.said.items()}
    return read.ratings, {**notes, **said, "read_as": one_line(read.how)}


def _is_json(path: Path, data: bytes) -> bool:
    return path.name.removesuffix(".gz").endswith(".json") or data.lstrip()[:1] in (b"[", b"{")


def _suggested(ratings: RatingMatrix) -> str:
    """`--targets` and the items that every fake rates at the maximum, which targets are."""
    praised = ratings.items[ratings.levels == ratings.scale.level_count - 1]
    counts = np.bincount(praised, minlength=ratings.item_count)
    found = np.flatnonzero(counts == ratings.user_count)
    if not 0 < len(found) <= MOST_SUGGESTED:
        return "--targets 1485,1320,…"
    items = ",".join(map(str, found.tolist()))
    return f"--targets: every profile rates {items} at the maximum"


def _indices(path: Path, key: str, text: str, what: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.replace(",", " ").split())
    except ValueError as error:
        raise InputError(f"{path}: {key} {text[:60]!r} are not indices of {what}") from error


def _comments(path: Path, data: bytes) -> tuple[list[str], int, dict[str, str]]:
    """All lines, the first that is no comment, counted from 0, and what the comments say."""
    # Counted before they are split: lines take some twenty times their text.
    if sum(map(data.count, LINE_ENDS)) - data.count(b"\r\n") > MAX_RATINGS + MOST_COMMENTS:
        raise InputError(f"{path}: more than {MAX_RATINGS} ratings: these are more than profiles")
    try:
        # A byte order mark comes from some spreadsheets.
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file") from error
    start = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    notes = {}
    for line in lines[:start]:
        key, colon, value = line.removeprefix("#").partition(":")
        if colon:
            notes[one_line(key, 80)] = one_line(value, MOST_OF_NOTE)
    return lines, start, notes


def _parse_csv(
    path: Path,
    lines: list[str],
    start: int,
    notes: dict[str, str],
    item_count: int,
    scale: RatingScale,
) -> RatingMatrix:
    """The ratings below the column names of line `start`; the digest is taken out of the notes."""
    refuse_more(len(lines) - start - 1)
    body = "\n".join(lines[start:]) + "\n"
    digest = notes.pop("digest", None)
    if digest is not None and digest != hashlib.sha256(body.encode()).hexdigest():
        raise InputError(f"{path}: damaged: its rows do not match its digest")
    rows: dict[tuple[int, int], int] = {}
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        try:
            user, item, level = _parse_row(line, item_count, scale)
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error
        if (user, item) in rows:
            raise InputError(f"{path}:{number}: user {user} rates item {item} a second time")
        rows[user, item] = level
    pairs = np.array(list(rows), dtype=np.int64).reshape(-1, 2)
    names, users = np.unique(pairs[:, 0], return_inverse=True)
    levels = list(rows.values())
    return RatingMatrix.from_triples(
        users, pairs[:, 1], levels, user_count=len(names), item_count=item_count, scale=scale
    )


def _parse_row(line: str, item_count: int, scale: RatingScale) -> tuple[int, int, int]:
    """User, item and level. Raises InputError."""
    try:
        user_text, item_text, rating = line.split(",")
        user, item, value = int(user_text), int(item_text), float(rating)
    except ValueError as error:
        raise InputError(f"not user,item,rating: {line[:60]!r}") from error
    if not 0 <= user <= MAX_USER or not 0 <= item < item_count:
        raise InputError(f"users count from 0, items lie in 0–{item_count - 1}: {line[:60]!r}")
    return user, item, int(scale.levels(value))


def _table(path: Path) -> NDArray[Any]:
    try:
        # Mapped, so that a shape beyond the file's size is an error and no allocation.
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except _NOT_A_TABLE as error:
        raise InputError(f"{path}: not a .npy table of numbers") from error
    if not isinstance(table, np.ndarray):
        raise InputError(f"{path}: not a .npy table of numbers")
    return table
