"""What a device knows of its own user; none of it is ever sent.

A folder of device files has one user in each, FOLDER/USER.safetensors, to be handed out one by
one; a simulation, whose users are all on one machine, has many in a file.

Shapes: U users of one or several device files, I items.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from common.errors import InputError
from common.files import read_file, require_secret, write_file
from common.ids import PREFIX, Named, Names, map_csv, unknown_id
from common.ranking import HeldOutItem
from common.ratings import RatingMatrix, RatingScale
from common.tables import read_metadata
from common.wire.sealing import KEY_BYTES, OwnRow, device_key

MAX_BYTES: Final = 4 << 30
# In a folder of device files, a map of the items (common.ids); of users it says nothing.
ITEMS_FILE: Final = "items.csv"
_SUFFIX: Final = ".safetensors"
# In a file's metadata: ids of its users, as JSON.
_IDS: Final = "ids"
# Of one user's file, what stands before the ratings.
_MAX_HEADER_BYTES: Final = 1 << 20
_DTYPES: Final = {
    "users": np.int64,
    "keys": np.uint8,
    "indptr": np.int64,
    "items": np.int32,
    "levels": np.uint8,
    "held_out": np.int32,
    "held_out_liked": np.uint8,
    "scale": np.float64,
    "item_count": np.int64,
}


@dataclass(frozen=True)
class LocalRatings:
    """Own ratings of the users of a device process, and each one's held-out item.

    train           U × I ratings, row u the user's own; the items are masked when ranking
    held_out        int32 [U], the item that evaluation hid, −1 where none
    held_out_liked  bool [U], whether its rating reaches the threshold
    users           int64 [U], whose rows they are, ascending; None: 0 … U − 1
    keys            uint8 [U, 32], which open what servers seal; None where nobody is asked
    ids             what the users are called, by row; None: by their index
    """

    train: RatingMatrix
    held_out: NDArray[np.int32]
    held_out_liked: NDArray[np.bool_]
    users: NDArray[np.int64] | None = None
    keys: NDArray[np.uint8] | None = None
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        count = self.train.user_count
        if self.held_out.shape != (count,) or self.held_out_liked.shape != (count,):
            raise InputError("device ratings: not one held-out item per user")
        if count and not (-1 <= self.held_out.min() <= self.held_out.max() < self.train.item_count):
            raise InputError("device ratings: a held-out item is out of range")
        if self.users is not None and (
            self.users.shape != (count,)
            or (np.diff(self.users) <= 0).any()
            or (count and self.users[0] < 0)
        ):
            raise InputError("device ratings: their users do not ascend, one a row")
        if self.keys is not None and self.keys.shape != (count, KEY_BYTES):
            raise InputError("device ratings: not one key per user")
        if self.ids is not None and len(self.ids) != count:
            raise InputError("device ratings: not one id per user")

    def named(self, user: int) -> str:
        """What a user is called. Raises InputError for a user who is not there."""
        row = self._row(user)
        return str(user) if self.ids is None else self.ids[row]

    @cached_property
    def _rows(self) -> dict[int, int]:
        users = np.arange(self.train.user_count) if self.users is None else self.users
        return {user: row for row, user in enumerate(users.tolist())}

    def _row(self, user: int) -> int:
        if user not in self._rows:
            raise InputError(f"device ratings: they are not of user {user}")
        return self._rows[user]

    def items_of(self, user: int) -> NDArray[np.int32]:
        """What a user has rated, ascending. Raises InputError for a user who is not there."""
        return self.train.items_of(self._row(user))

    def held_out_of(self, user: int) -> HeldOutItem | None:
        """Raises InputError for a user who is not there."""
        row = self._row(user)
        if self.held_out[row] < 0:
            return None
        return HeldOutItem(int(self.held_out[row]), bool(self.held_out_liked[row]))

    def named_users(self) -> list[int]:
        """All users who are here, ascending."""
        return list(self._rows)

    def row_of(self, user: int) -> RatingMatrix:
        """A user's ratings, alone. Raises InputError for a user who is not there."""
        return self.train.rows([self._row(user)])

    def own(self, user: int) -> OwnRow:
        """A user's ratings and key. Raises InputError for a user who is not there."""
        row = self._row(user)
        if self.keys is None:
            raise InputError("device ratings: they have no keys")
        return OwnRow(self.train.rows([row]), self.keys[row].tobytes())

    def of(self, users: Sequence[int]) -> "LocalRatings":
        """Those of some users, ascending. Raises InputError for a user who is not there."""
        ascending = sorted(users)
        rows = np.array([self._row(user) for user in ascending], dtype=np.int64)
        return LocalRatings(
            self.train.rows(rows),
            self.held_out[rows],
            self.held_out_liked[rows],
            np.array(ascending, dtype=np.int64),
            None if self.keys is None else self.keys[rows],
            None if self.ids is None else tuple(self.ids[row] for row in rows.tolist()),
        )

    def with_keys(self, secret: bytes) -> "LocalRatings":
        """The same, to be given to devices of a server that has this secret."""
        keys = b"".join(device_key(secret, user) for user in self._rows)
        return LocalRatings(
            self.train,
            self.held_out,
            self.held_out_liked,
            self.users,
            np.frombuffer(keys, dtype=np.uint8).reshape(-1, KEY_BYTES),
            self.ids,
        )


def write_device_files(folder: Path, local: LocalRatings) -> None:
    """Write a file for each user; one that would not change stays as it is.

    Raises InputError where something else has its name, OSError.
    """
    for user in local._rows:
        path = folder / f"{user}{_SUFFIX}"
        data = _encoded(local.of([user]))
        if not _holds(path, data):
            if path.exists() and not path.is_symlink() and not _is_device_file(path):
                raise InputError(
                    f"{path} is there, and is no device file: move it away, or choose another "
                    "--device-ratings"
                )
            write_file(path, data, durable=False)


def write_items(folder: Path, names: Names, item_count: int) -> None:
    """Write the map of the items beside the device files. Raises OSError."""
    data = map_csv(names, item_count).encode()
    if not _holds(folder / ITEMS_FILE, data):
        write_file(folder / ITEMS_FILE, data)


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file has these bytes, for its owner alone."""
    try:
        return not path.stat().st_mode & 0o077 and read_file(path, most=len(data)) == data
    except (OSError, InputError):
        return False


def _is_device_file(path: Path) -> bool:
    try:
        return set(load(read_file(path, most=MAX_BYTES))) == set(_DTYPES)
    except (OSError, InputError, SafetensorError):
        return False


def write_local_ratings(path: Path, local: LocalRatings) -> None:
    """Write one device file (safetensors) of all users, whole or not at all. Raises OSError."""
    write_file(path, _encoded(local))


def _encoded(local: LocalRatings) -> bytes:
    """Raises InputError without keys."""
    if local.keys is None:
        raise InputError("device ratings: they have no keys")
    scale, users = local.train.scale, local.users
    data: bytes = save(
        {
            "users": np.arange(local.train.user_count) if users is None else users,
            "keys": local.keys.reshape(-1),
            "indptr": local.train.indptr,
            "items": local.train.items,
            "levels": local.train.levels,
            "held_out": local.held_out.astype(np.int32),
            "held_out_liked": local.held_out_liked.astype(np.uint8),
            "scale": np.array([scale.minimum, scale.maximum, scale.step], dtype=np.float64),
            "item_count": np.array([local.train.item_count], dtype=np.int64),
        },
        # A device knows its own user's id, and nobody else's.
        metadata=None if local.ids is None else {_IDS: json.dumps(local.ids)},
    )
    return data


def read_local_ratings(path: Path, users: Iterable[int] | None = None) -> LocalRatings:
    """Of a device file, or of a folder of them; of `users` alone where they are named.

    Raises InputError when something else is there, or not every user.
    """
    if not path.is_dir():
        found = _read(path)
        if users is None:
            return found
        users = list(users)
        if missing := set(users) - set(found._rows):
            raise InputError(f"{path}: not the device file of user {min(missing)}")
        return found.of(users)
    if users is None:
        names = (each.stem for each in path.glob(f"*{_SUFFIX}"))
        users = (int(name) for name in names if name.isascii() and name.isdecimal())
    parts = []
    for user in sorted(users):
        if not (path / f"{user}{_SUFFIX}").exists():
            raise InputError(f"{path}: no device file of user {user}")
        part = _read(path / f"{user}{_SUFFIX}")
        if part.users is None or part.users.tolist() != [user]:
            raise InputError(f"{path / f'{user}{_SUFFIX}'}: not the device file of user {user}")
        parts.append(part)
    if not parts:
        raise InputError(
            f"{path}: no device files; `vicinal serve --device-ratings {path}` writes them"
        )
    return _joined(parts)


def users_named(path: Path, named: Sequence[Named]) -> tuple[int, ...]:
    """Indices of users of a device file, or of a folder of them, by index or as `id:ALICE`.

    Files have their own users' ids; only what stands at their beginning is read. Raises InputError.
    """
    if all(isinstance(each, int) for each in named):
        return tuple(int(each) for each in named)
    known = dict(_named_in(path))
    if not known:
        raise InputError(
            f"users: {path}: has no ids of users: name them by index, or write it anew with "
            "`vicinal serve --device-ratings`"
        )
    found = []
    for each in named:
        name = "" if isinstance(each, int) else each.removeprefix(PREFIX)
        if not isinstance(each, int) and name not in known:
            raise unknown_id("users", "user", name, list(known))
        found.append(each if isinstance(each, int) else known[name])
    if len(set(found)) != len(found):
        raise InputError("users: one is named twice, by index and by id")
    return tuple(found)


def _named_in(path: Path) -> Iterator[tuple[str, int]]:
    """Ids and indices. Raises InputError."""
    if not path.is_dir():
        local = _read(path)
        users = range(local.train.user_count) if local.users is None else local.users.tolist()
        yield from zip(local.ids or (), users, strict=False)
        return
    for each in sorted(path.glob(f"*{_SUFFIX}")):
        if not (each.stem.isascii() and each.stem.isdecimal()):
            continue
        try:
            with each.open("rb") as opened:
                head = opened.read(8)
                head += opened.read(min(int.from_bytes(head, "little"), _MAX_HEADER_BYTES))
        except OSError as error:
            raise InputError(f"{each}: cannot be read ({error.strerror})") from error
        names = _ids_in(read_metadata(head)) or ()
        yield from ((name, int(each.stem)) for name in names[:1])


def _ids_in(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Of a device file; None in one of before. Raises ValueError for what are none."""
    if _IDS not in metadata:
        return None
    names = json.loads(metadata[_IDS])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("ids that are none")
    return tuple(names)


def _joined(parts: list[LocalRatings]) -> LocalRatings:
    """Those of several files, of which some may be older, when there were fewer items.

    Raises InputError when they are over different scales.
    """
    scale = parts[0].train.scale
    if any(each.train.scale != scale for each in parts):
        raise InputError("device ratings: over different scales")
    lengths = np.concatenate([np.diff(each.train.indptr) for each in parts])
    return LocalRatings(
        RatingMatrix(
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate([each.train.items for each in parts]),
            np.concatenate([each.train.levels for each in parts]),
            max(each.train.item_count for each in parts),
            scale,
        ),
        np.concatenate([each.held_out for each in parts]),
        np.concatenate([each.held_out_liked for each in parts]),
        np.concatenate([each.users for each in parts if each.users is not None]),
        np.concatenate([each.keys for each in parts if each.keys is not None]),
        tuple(name for each in parts for name in each.ids or ())
        if all(each.ids is not None for each in parts)
        else None,
    )


def _read(path: Path) -> LocalRatings:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        data = path.read_bytes()
        tables = load(data)
        for name, dtype in _DTYPES.items():
            if tables[name].dtype != dtype or tables[name].ndim != 1:
                raise InputError(
                    f"{path}: {name} is {tables[name].dtype}, not a row of {np.dtype(dtype)}"
                )
        train = RatingMatrix(
            tables["indptr"],
            tables["items"],
            tables["levels"],
            int(tables["item_count"][0]),
            RatingScale(*tables["scale"].tolist()),
        )
        local = LocalRatings(
            train,
            tables["held_out"],
            tables["held_out_liked"].astype(bool),
            tables["users"],
            tables["keys"].reshape(-1, KEY_BYTES),
            _ids_in(read_metadata(data)),
        )
        require_secret(path)
        return local
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (SafetensorError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a device file; `vicinal serve --device-ratings` writes them"
        ) from error
