"""Data sets by name or by file: ratings, their times, and the published split where there is one.

Shapes: U users, I items, N observed ratings.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
from numpy.typing import NDArray

from common.errors import InputError
from common.names import unknown
from common.ratings import RatingMatrix, RatingScale
from server.data import sources
from server.data.formats import PARSERS, parse_dat, parse_tsv, read_ratings
from server.data.reading import read_member
from server.data.rows import FixedIds, IndexedRatings, RatingRows
from server.data.synthetic import synthetic


@dataclass(frozen=True)
class HeldOut:
    """One item a user: items int32 [U], −1 where there is none; levels uint8 [U], 0 there."""

    items: NDArray[np.int32]
    levels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.items.ndim != 1 or self.items.shape != self.levels.shape:
            raise InputError("held-out items: one item and one level a user are needed")

    @property
    def users(self) -> NDArray[np.int64]:
        """The users who have a held-out item, ascending."""
        return np.flatnonzero(self.items >= 0)


@dataclass(frozen=True, repr=False)
class Dataset:
    """Ratings of a data set, all of them: a published split's held-out ones included.

    timestamps int64 [N], seconds since 1970 in the order of `ratings.items`; `held_out` is the
    published split; `source` says where the ratings came from; `text_ids` names the columns (user,
    item) whose ids are text, however much they look like numbers.
    """

    name: str
    ratings: RatingMatrix
    timestamps: NDArray[np.int64] | None
    held_out: HeldOut | None
    source: str
    text_ids: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Dataset({self.name}: {self.ratings.summary}; {self.source})"

    def __post_init__(self) -> None:
        if self.timestamps is not None and len(self.timestamps) != len(self.ratings):
            raise InputError(f"{self.name}: one timestamp a rating is needed")


@dataclass(frozen=True)
class KnownDataset:
    """A data set known by name: what it looks like, and what its files may be called."""

    scale: RatingScale
    # Looked for in the folder NAME of VICINAL_DATA, then in VICINAL_DATA itself, in this order.
    files: tuple[str, ...]
    # (U, I) where ids are consecutive numbers that mean an index; zero-based in NAME.train.rating
    # and NAME.test.rating, from 1 in `files`. None: ids are compacted.
    shape: tuple[int, int] | None
    # Why nothing can fetch it, and how to supply it instead; None when it can be fetched.
    supply: str | None = None


KNOWN: dict[str, KnownDataset] = {
    "ml-100k": KnownDataset(
        scale=RatingScale(1, 5, 1),
        files=("u.data", "ml-100k.inter", "ml-100k.zip"),
        shape=(943, 1682),
    ),
    "ml-1m": KnownDataset(
        scale=RatingScale(1, 5, 1),
        files=("ratings.dat", "ratings.csv", "ratings.csv.gz", "ml-1m.inter", "ml-1m.zip"),
        shape=None,
    ),
    "filmtrust": KnownDataset(
        scale=RatingScale(1, 8, 1),
        files=(),
        shape=(796, 2011),
        supply="it may not be redistributed: put filmtrust.train.rating and "
        "filmtrust.test.rating into VICINAL_DATA/filmtrust",
    ),
    "yelp": KnownDataset(
        scale=RatingScale(1, 5, 1),
        files=tuple(
            f"yelp_academic_dataset_review.{end}"
            for end in ("json", "json.gz", "jsonl", "jsonl.gz")
        ),
        shape=None,
        supply="its license asks everybody to download it from Yelp: put "
        "yelp_academic_dataset_review.json into VICINAL_DATA/yelp",
    ),
}
ZIP_MEMBERS = {
    "ml-100k.zip": ("ml-100k/u.data", parse_tsv),
    "ml-1m.zip": ("ml-1m/ratings.dat", parse_dat),
}


def load_dataset(
    spec: str,
    *,
    data_folder: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
    scale: RatingScale | None = None,
    progress: bool = False,
) -> Dataset:
    """A data set by its name in `KNOWN`, `synthetic[:UxI[xN]]`, or a rating file.

    A known one comes from `data_folder` (VICINAL_DATA unless given) if it is there, else from
    the cache (VICINAL_CACHE, or the platform's cache folder), else from the network. `seed` is
    for synthetic ratings, `scale` for a file whose scale is not the usual one it seems.

    Raises InputError for what cannot be used, and sources.FetchError when no source answers.
    """
    if spec.split(":", maxsplit=1)[0] == "synthetic":
        return _synthetic(spec, seed)
    if spec in KNOWN:
        found = _in_folder(spec, data_folder or _folder_from_environment())
        return found or _fetched(spec, cache or cache_folder(), progress=progress)
    path = Path(spec)
    if spec and path.is_dir():
        raise InputError(f"{path}: is a folder, not a rating file")
    if not path.is_file() and (path.suffix or len(path.parts) > 1):
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise unknown(
            "data set",
            spec,
            [*KNOWN, "synthetic"],
            more=f"[:UxI], or a rating file ({' '.join(PARSERS)} .json, or .gz of these)",
        )
    indexed = read_ratings(path).indexed(scale=scale)
    return Dataset(path.name, indexed.ratings, indexed.timestamps, None, f"file {path}")


def cache_folder() -> Path:
    """Where fetched data sets are kept: VICINAL_CACHE, or the platform's cache folder."""
    return Path(os.environ.get("VICINAL_CACHE") or pooch.os_cache("vicinal"))


def _folder_from_environment() -> Path | None:
    named = os.environ.get("VICINAL_DATA")
    return Path(named) if named else None


def _synthetic(spec: str, seed: int) -> Dataset:
    matched = re.fullmatch(r"synthetic(?::(\d{1,9})x(\d{1,9})(?:x(\d{1,12}))?)?", spec, re.ASCII)
    if not matched:
        raise InputError(f"data set {spec!r}: write synthetic:USERSxITEMS or …xRATINGS")
    numbers = [int(number) for number in matched.groups() if number is not None]
    ratings = synthetic(*numbers, seed=seed)
    return Dataset(spec, ratings, None, None, f"synthetic ratings, seed {seed}")


def _in_folder(name: str, folder: Path | None) -> Dataset | None:
    """The data set from files at hand; None when the folder does not hold it."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; set VICINAL_DATA to the one with {name}")
    known = KNOWN[name]
    for place in (folder / name, folder):
        raw = next((place / file for file in known.files if (place / file).is_file()), None)
        halves = tuple(place / f"{name}.{part}.rating" for part in ("train", "test"))
        present = [half.is_file() for half in halves]
        if all(present):
            return _published(name, *halves, raw=raw)
        if any(present):
            missing = halves[present.index(False)]
            raise InputError(f"{missing} is missing: the published split needs both files")
        if raw is not None:
            indexed = _read_known(name, raw)
            return Dataset(name, indexed.ratings, indexed.timestamps, None, f"file {raw}")
    return None


def _fetched(name: str, cache: Path, *, progress: bool) -> Dataset:
    if name not in sources.SOURCES:
        raise InputError(f"{name} cannot be fetched: {KNOWN[name].supply}")
    fetched = sources.fetch(name, cache, progress=progress)
    indexed = _read_known(name, fetched.path)
    return Dataset(name, indexed.ratings, indexed.timestamps, None, f"from {fetched.source}")


def _read_known(name: str, path: Path) -> IndexedRatings:
    """The ratings of a known data set in the form its publisher gives."""
    known = KNOWN[name]
    return _read_any(path).indexed(ids=_fixed_ids(known, first=1), scale=known.scale)


def _read_any(path: Path) -> RatingRows:
    if path.name not in ZIP_MEMBERS:
        return read_ratings(path)
    member, parse = ZIP_MEMBERS[path.name]
    return parse(read_member(path, member, limit=sources.MAX_MEMBER_BYTES), f"{path}:{member}")


def _fixed_ids(known: KnownDataset, *, first: int) -> FixedIds | None:
    return FixedIds(first, *known.shape) if known.shape else None


def _published(name: str, train_path: Path, test_path: Path, *, raw: Path | None) -> Dataset:
    """The union of a published split's files, and what it holds out; times from the raw file."""
    known = KNOWN[name]
    ids = _fixed_ids(known, first=0)
    train, test = (
        read_ratings(path).indexed(ids=ids, scale=known.scale).ratings
        for path in (train_path, test_path)
    )
    if (np.diff(test.indptr) > 1).any():
        user = int(np.argmax(np.diff(test.indptr)))
        raise InputError(f"{test_path}: user {user} has more than one held-out rating")
    items = np.full(test.user_count, -1, dtype=np.int32)
    levels = np.zeros(test.user_count, dtype=np.uint8)
    items[test.users], levels[test.users] = test.items, test.levels
    try:
        ratings = RatingMatrix.from_triples(
            np.concatenate([train.users, test.users]),
            np.concatenate([train.items, test.items]),
            np.concatenate([train.levels, test.levels]),
            user_count=train.user_count,
            item_count=train.item_count,
            scale=train.scale,
        )
    except InputError as error:
        raise InputError(f"{test_path}: a held-out pair is in {train_path.name} too") from error
    timestamps = None
    if raw is not None:
        timed = _read_known(name, raw)
        if timed.ratings.digest() != ratings.digest():
            raise InputError(f"{raw} and {train_path.name} hold different ratings; remove one")
        timestamps = timed.timestamps
    source = f"published split in {train_path.parent}"
    return Dataset(name, ratings, timestamps, HeldOut(items, levels), source)
