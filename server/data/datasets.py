"""Data sets by name or by file: ratings, their times, and the published split where there is one.

Shapes: U users, I items, N observed ratings.
"""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pooch
from numpy.typing import NDArray

from common.errors import InputError
from common.ids import Names
from common.names import unknown
from common.ratings import RatingMatrix, RatingScale
from server.data import sources
from server.data.databases import is_database, read_table, table_of
from server.data.doubts import Doubt
from server.data.formats import KINDS, parse, read_folder, read_ratings
from server.data.held_out import HeldOut
from server.data.layouts import hinting, with_layout
from server.data.magic import ZIP
from server.data.places import require_place
from server.data.reading import PACKINGS, read_member
from server.data.reading_options import ReadingOptions, plain_path
from server.data.rows import FixedIds, IndexedRatings, RatingRows
from server.data.synthetic import synthetic
from server.data.titles import titles_of


@dataclass(frozen=True, repr=False)
class Dataset:
    """Ratings of a data set, all of them: a published split's held-out ones included.

    timestamps int64 [N], seconds since 1970 in the order of `ratings.items`; `held_out` is the
    published split, or `given` with a test file; `source` says where the ratings came from;
    `text_ids` names the columns (user, item) whose ids are text, however much they look like
    numbers. `reading` is how a file was to be read, `notes` what was done with it, `doubts` what
    looks wrong in it, and `shift` what was added to every rating so that all are positive.
    `titles` are of the items, by index, where a file has them.
    """

    name: str
    ratings: RatingMatrix
    timestamps: NDArray[np.int64] | None
    held_out: HeldOut | None
    source: str
    text_ids: frozenset[str] = frozenset()
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    shift: float = 0.0
    titles: tuple[str | None, ...] | None = None

    def __repr__(self) -> str:
        return f"Dataset({self.name}: {self.ratings.summary}; {self.source})"

    def __post_init__(self) -> None:
        if self.timestamps is not None and len(self.timestamps) != len(self.ratings):
            raise InputError(f"{self.name}: one timestamp a rating is needed")

    @property
    def item_names(self) -> Names:
        """What the items are called."""
        return Names(self.ratings.item_ids, self.titles)

    @property
    def held_out_kind(self) -> str:
        """What a split of `held_out` is called."""
        return "published" if self.reading.test is None else "given"

    @property
    def read_as(self) -> ReadingOptions:
        """How it was read: what was said, and what the layout says that was named."""
        return with_layout(self.reading)


@dataclass(frozen=True)
class KnownDataset:
    """A data set known by name: what it looks like, and what its files may be called."""

    scale: RatingScale
    # Looked for in the folder NAME of VICINAL_DATA, then in VICINAL_DATA itself, in this order.
    files: tuple[str, ...]
    # (U, I) where ids are consecutive numbers that mean an index; zero-based in NAME.train.rating
    # and NAME.test.rating, from 1 in `files`. None: ids are compacted.
    shape: tuple[int, int] | None
    # How many users, items and ratings it has; None where publishers change it.
    counts: tuple[int, int, int] | None = None
    # Of the rating matrix.
    digest: str | None = None
    # Why nothing can fetch it, and how to supply it instead; None when it can be fetched.
    supply: str | None = None


KNOWN: dict[str, KnownDataset] = {
    "ml-100k": KnownDataset(
        scale=RatingScale(1, 5, 1),
        files=("u.data", "ml-100k.inter", "ml-100k.zip"),
        shape=(943, 1682),
        counts=(943, 1682, 100_000),
        digest="4b7d0e366c8747fa3ff1896739023489bf71512f9fe0f2310084119246b302b2",
    ),
    "ml-1m": KnownDataset(
        scale=RatingScale(1, 5, 1),
        files=("ratings.dat", "ratings.csv", "ratings.csv.gz", "ml-1m.inter", "ml-1m.zip"),
        shape=None,
        counts=(6040, 3706, 1_000_209),
        digest="f090e77d57ba88b787d8706c24ef3c668586f33f5e89c42523fa5fd24b93ea8f",
    ),
    "filmtrust": KnownDataset(
        scale=RatingScale(1, 8, 1),
        files=(),
        shape=(796, 2011),
        counts=(796, 2011, 30_880),
        digest="df90cd2add294e80bc2296f5e5695ae3815076510222a94adae0c76c86de5de0",
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
    "ml-100k.zip": "ml-100k/u.data",
    "ml-1m.zip": "ml-1m/ratings.dat",
}
# Counts from 0, which a first line of 0, 1 and 2 would leave in doubt, and no names.
AS_PUBLISHED = ReadingOptions()
AS_SPLIT = ReadingOptions(header="no")


def load_dataset(
    spec: str,
    *,
    data_folder: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
    reading: ReadingOptions | None = None,
    progress: bool = False,
) -> Dataset:
    """A data set by its name in `KNOWN`, `synthetic[:UxI[xN]]`, a rating file, a folder of parquet
    files, or a table of a database (server.data.databases).

    A known one comes from `data_folder` (VICINAL_DATA unless given) if it is there, else from
    the cache (VICINAL_CACHE, or the platform's cache folder), else from the network. `seed` is
    for synthetic ratings, and for what is held out of a test file; `reading` for a file.

    Raises InputError for what cannot be used, and sources.FetchError when no source answers.
    """
    reading = reading or ReadingOptions()
    found = _loaded(spec, data_folder, cache, seed, reading, progress=progress)
    # Catalogs of these count from 1, where their indices stand for ids.
    counted = spec in KNOWN and KNOWN[spec].shape is not None
    return with_titles(found, first=1 if counted else 0)


def with_titles(found: Dataset, *, first: int = 0) -> Dataset:
    """With the titles that its options of reading name; `first` is the id of index 0 without ids.

    Raises InputError.
    """
    if found.reading.items is None:
        return found
    reading = found.reading
    assert reading.items is not None
    titles, note = titles_of(reading.items, found.ratings, reading.item_columns, first=first)
    return replace(found, titles=titles, notes=(*found.notes, note))


def _loaded(
    spec: str,
    data_folder: Path | None,
    cache: Path | None,
    seed: int,
    reading: ReadingOptions,
    *,
    progress: bool,
) -> Dataset:
    """Without titles."""
    named = spec in KNOWN or spec.split(":", maxsplit=1)[0] == "synthetic"
    if named:
        beside = ReadingOptions(
            split=reading.split, items=reading.items, item_columns=reading.item_columns
        )
        if reading != beside:
            said = " and ".join(each.replace("_", " ") for each in reading.told())
            raise InputError(
                f"data set {spec}: is read as it is published or made: leave out {said}"
            )
        if spec in KNOWN:
            found = _in_folder(spec, data_folder or _folder_from_environment())
            found = found or _fetched(spec, cache or cache_folder(), progress=progress)
        else:
            found = _synthetic(spec, seed)
        return replace(found, reading=reading)
    if is_database(spec):
        name = table_of(spec).table
        rows, source = read_table(spec, with_layout(reading)), f"table {spec}"
    else:
        path = plain_path(spec)
        _refuse_missing(spec, path, reading)
        name, source = path.name, f"{'folder' if path.is_dir() else 'file'} {path}"
        with hinting(name, reading):
            rows = (read_folder if path.is_dir() else read_ratings)(path, reading)
    if reading.test is not None:
        test = plain_path(reading.test)
        _refuse_missing(reading.test, test)
        rows = rows.with_test(read_ratings(test, reading))
        source += f", tested on {test}"
    with hinting(name, reading):
        indexed = rows.indexed(seed=seed)
    return Dataset(
        name,
        indexed.ratings,
        indexed.timestamps,
        indexed.held_out,
        source,
        reading=reading,
        notes=indexed.notes,
        doubts=indexed.doubts,
        shift=indexed.shift,
    )


def _refuse_missing(spec: str, path: Path, reading: ReadingOptions | None = None) -> None:
    """Raises InputError for what is no file; a word without an end may be meant for a name.

    reading  None: of what is no data set, and may be no folder
    """
    if require_place(spec, path, reading):
        return
    raise unknown(
        "data set",
        spec,
        [*KNOWN, "synthetic"],
        more=f"[:UxI], or a rating file ({' '.join(KINDS)}, packed or plain: "
        f"{' '.join((*PACKINGS, ZIP))})",
    )


def is_at_hand(name: str) -> bool:
    """Whether the folder of VICINAL_DATA has a known data set. Raises InputError for half of it."""
    return _in_folder(name, _folder_from_environment()) is not None


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
            return _known(name, raw, f"file {raw}")
    return None


def _fetched(name: str, cache: Path, *, progress: bool) -> Dataset:
    if name not in sources.SOURCES:
        raise InputError(f"{name} cannot be fetched: {KNOWN[name].supply}")
    fetched = sources.fetch(name, cache, progress=progress)
    return _known(name, fetched.path, f"from {fetched.source}")


def _known(name: str, raw: Path, source: str) -> Dataset:
    """A known data set from the one file in which it is published. Raises InputError."""
    indexed = _read_known(name, raw)
    doubts = _recognized(name, raw, indexed.ratings)
    return Dataset(name, indexed.ratings, indexed.timestamps, None, source, doubts=doubts)


def _recognized(name: str, path: Path, ratings: RatingMatrix) -> tuple[Doubt, ...]:
    """Raises InputError for a file of other ratings that has the name of a known one."""
    known = KNOWN[name]
    found = (ratings.user_count, ratings.item_count, len(ratings))
    if known.counts is not None and found != known.counts:
        has, should = (
            f"{u:,} users, {i:,} items, {n:,} ratings" for u, i, n in (found, known.counts)
        )
        raise InputError(
            f"{path}: is not {name}: it has {has}, where {name} has {should}; to use the file, "
            f"give its path: --dataset {path}"
        )
    if known.digest is None or ratings.digest() == known.digest:
        return ()
    text = f"{path} has the size of {name}, and other ratings: digest {ratings.digest()[:12]}"
    return (Doubt("other-contents", text),)


def _read_known(name: str, path: Path) -> IndexedRatings:
    """The ratings of a known data set in the form its publisher gives."""
    known = KNOWN[name]
    return _read_any(path).indexed(ids=_fixed_ids(known, first=1), scale=known.scale)


def _read_any(path: Path) -> RatingRows:
    if path.name not in ZIP_MEMBERS:
        return read_ratings(path, AS_PUBLISHED)
    member = ZIP_MEMBERS[path.name]
    data = read_member(path, member, limit=sources.MAX_MEMBER_BYTES)
    return parse(data, f"{path}:{member}", Path(member).suffix, AS_PUBLISHED)


def _fixed_ids(known: KnownDataset, *, first: int) -> FixedIds | None:
    return FixedIds(first, *known.shape) if known.shape else None


def _published(name: str, train_path: Path, test_path: Path, *, raw: Path | None) -> Dataset:
    """The union of a published split's files, and what it holds out; times from the raw file."""
    known = KNOWN[name]
    ids = _fixed_ids(known, first=0)
    train, test = (
        read_ratings(path, AS_SPLIT).indexed(ids=ids, scale=known.scale).ratings
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
    doubts = _recognized(name, train_path.parent, ratings)
    source = f"published split in {train_path.parent}"
    return Dataset(name, ratings, timestamps, HeldOut(items, levels), source, doubts=doubts)
