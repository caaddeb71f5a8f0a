"""What users and items are called for callers: the map of ids, held against what is served."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, final

from common.errors import InputError
from common.ids import UNNAMED, IdMap, Names, ids_digest, read_map
from common.wire.description import Description

# No user has it; whoever asks for an unknown id is refused as one who asks for this index is.
NOBODY: Final = (1 << 32) - 1

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Called:
    """Names that fit a description, or why there are none.

    items    of the items
    users    by index; None: users have no ids here
    problem  in a line, where the map is of others than what is served
    """

    items: Names = UNNAMED
    users: tuple[str, ...] | None = None
    problem: str = ""

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.users or ())}

    def index_of(self, user: int | str) -> int:
        """Of a user by index or id; NOBODY for an id that nobody has. Raises InputError."""
        if isinstance(user, int):
            return user
        if self.users is None:
            raise InputError("users have no ids here: name one by index, as a number")
        return self._indices.get(user, NOBODY)

    @cached_property
    def _items(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.items.ids or ())}

    def item_of(self, item: int | str) -> int:
        """Of an item by index or id. Raises InputError for an id that none has."""
        if isinstance(item, int):
            return item
        if self.items.ids is None:
            raise InputError("items have no ids here: name one by index, as a number")
        if item not in self._items:
            raise InputError(f"no item has the id {item!r:.80}")
        return self._items[item]

    def id_of(self, index: int) -> str | None:
        """A user's id; None where none is known."""
        if self.users is None or index >= len(self.users):
            return None
        return self.users[index]


@final
class NameBook:
    """The map of ids in a file, which is read again when it has changed.

    path  None: items and users are named by index
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read: tuple[Stamp, IdMap] | None = None
        self._fitted: tuple[Stamp, str, str, int, Called] | None = None

    def called(self, description: Description) -> Called:
        """Names that fit what is served, or why there are none."""
        if self._path is None:
            return Called()
        about = (description.item_ids, description.user_ids, description.user_count)
        try:
            stamp = self._stamp(self._path)
            if self._fitted is None or self._fitted[:4] != (stamp, *about):
                self._fitted = (stamp, *about, self._fit(self._map(stamp), description))
        except InputError as error:
            # Of a file that cannot be read now, and may be soon.
            return Called(problem=str(error))
        return self._fitted[4]

    def _map(self, stamp: Stamp) -> IdMap:
        assert self._path is not None
        if self._read is None or self._read[0] != stamp:
            self._read = stamp, read_map(self._path)
        return self._read[1]

    def _stamp(self, path: Path) -> Stamp:
        try:
            found = path.stat()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _fit(self, whole: IdMap, description: Description) -> Called:
        try:
            fitting = whole.first(description.manifest.items)
            fitting.require(description.item_ids)
            if whole.users is not None:
                _require_users(whole.path, whole.users, description)
        except InputError as error:
            return Called(problem=str(error))
        called = Called(fitting.items, whole.users)
        called.index_of(0 if called.users is None else "")  # the index of ids, made here and once
        return called


def _require_users(path: Path, users: tuple[str, ...], description: Description) -> None:
    """Raises InputError unless the first users of a map are those of the version."""
    count = description.user_count
    if len(users) < count:
        raise InputError(f"{path}: names {len(users)} users, and {count} are served: map them anew")
    first = users[:count]
    plain = all(name == str(at) for at, name in enumerate(first))
    if description.user_ids not in (ids_digest(first, count), plain and ids_digest(None, count)):
        raise InputError(f"{path}: names other users than those that are served: map them anew")
