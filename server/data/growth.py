"""Ratings that grow: a user or an item that was known keeps its index, and new ones come after.

A file's ids are compacted in sorted order, so that a single new one would move many others.
Devices, tokens, budgets and tallies know users by index, and models know items by index: whoever
serves ratings again and again keeps the ids in the order in which they were met. Who has no rating
any more keeps the place, with an empty row.

Shapes: U users, I items, N ratings.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.files import read_file, write_file
from common.ids import indices_of
from common.ratings import RatingMatrix
from server.data.datasets import Dataset
from server.data.held_out import HeldOut
from server.data.reading_options import ReadingOptions, plain_path

FOLDER: Final = "ids"
MAX_BYTES: Final = 4 << 30
# What decides which column an id is in.
_DECIDING: Final = ("format", "columns", "fields", "member")


@dataclass(frozen=True)
class KnownIds:
    """Ids by index."""

    users: tuple[str, ...]
    items: tuple[str, ...]


def ids_of(ratings: RatingMatrix) -> KnownIds | None:
    """None where the index is the name, as in data sets of a fixed shape."""
    if ratings.user_ids is None or ratings.item_ids is None:
        return None
    return KnownIds(ratings.user_ids, ratings.item_ids)


def in_known_order(dataset: Dataset, known: KnownIds | None) -> Dataset:
    """The same ratings, with known users and items at their indices and new ones after them.

    New ones keep the order that they have among themselves.
    """
    ratings, found = dataset.ratings, ids_of(dataset.ratings)
    if known is None or found is None or found == known:
        return dataset
    users, user_ids = _placed(found.users, known.users)
    items, item_ids = _placed(found.items, known.items)
    rows, columns = users[ratings.users], items[ratings.items].astype(np.int32)
    order = np.lexsort((columns, rows))
    indptr = np.zeros(len(user_ids) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=len(user_ids)), out=indptr[1:])
    times, held_out = dataset.timestamps, dataset.held_out
    if held_out is not None:
        theirs = held_out.users
        held_out = HeldOut.of(
            users[theirs],
            items[held_out.items[theirs]],
            held_out.levels[theirs],
            len(user_ids),
        )
    return replace(
        dataset,
        ratings=RatingMatrix(
            indptr,
            columns[order],
            ratings.levels[order],
            len(item_ids),
            ratings.scale,
            user_ids,
            item_ids,
        ),
        timestamps=None if times is None else times[order],
        held_out=held_out,
    )


def _placed(
    found: Sequence[str], known: tuple[str, ...]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The new index of each id that is found, and all ids by index."""
    index = {name: at for at, name in enumerate(known)}
    new = [name for name in found if name not in index]
    index |= {name: len(known) + at for at, name in enumerate(new)}
    places = np.fromiter((index[name] for name in found), dtype=np.int64, count=len(found))
    return places, (*known, *new)


def ids_file(store: Path, dataset: str, reading: ReadingOptions) -> Path:
    """Where a server's store keeps the ids of some ratings in the order in which it met them.

    Of a file the place counts, and not what is in it, which grows.
    """
    where = dataset if "://" in dataset else str(plain_path(dataset).absolute())
    told = {name: said for name, said in reading.told().items() if name in _DECIDING}
    text = json.dumps([where, told], sort_keys=True)
    return store / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def read_ids(path: Path) -> KnownIds | None:
    """None where there are none yet. Raises InputError for a file that is damaged."""
    try:
        table = json.loads(read_file(path, most=MAX_BYTES))
        return KnownIds(_names(table["users"]), _names(table["items"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged; without it users and items get other indices: delete it, and give "
            "devices new files and tokens"
        ) from error


def keep_ids(path: Path, ratings: RatingMatrix) -> None:
    """Keep the ids of ratings in known order, where they have any. Raises OSError."""
    found = ids_of(ratings)
    if found is not None and found != read_ids(path):
        table = {"users": found.users, "items": found.items}
        write_file(path, json.dumps(table, ensure_ascii=False).encode())


def _names(found: Any) -> tuple[str, ...]:
    """Raises ValueError for what is no list of different ids."""
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError("not a list of ids")
    if len(set(found)) != len(found):
        raise ValueError("an id stands there twice")
    return tuple(found)


def index_of(named: str, dataset: str | None, store: Path, reading: ReadingOptions) -> int:
    """The index that a server with this store has given to a user named `id:ALICE`.

    Raises InputError where no data set is named, none of it was served, and nobody has the id.
    """
    if dataset is None:
        raise InputError(f"{named:.80}: whose id this is says --dataset, as the server has it")
    path = ids_file(store, dataset, reading)
    known = read_ids(path)
    if known is None:
        raise InputError(
            f"store {store}: has no ids of {dataset}: give --store, --dataset and --columns as "
            "`vicinal serve` has them, once it has served, or name the user by index"
        )
    (index,) = indices_of([named], known.users, None, kind="user", option="user")
    return index
