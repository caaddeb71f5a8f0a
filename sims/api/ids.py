"""The ids that users and items have where the ratings came from, and the indices they stand for."""

import re
from collections.abc import Iterable
from typing import Final, final

import numpy as np

from common.errors import InputError
from common.names import nearest
from server.data.datasets import Dataset

Id = int | str
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]*", re.ASCII)
SUGGESTED_FROM: Final = 20_000


@final
class Ids:
    """Users' or items' ids. Data without ids has the zero-based indices for ids.

    what   user or item, for messages
    names  by index; None where there are none
    text   whether they are text although all of them look like numbers
    """

    def __init__(
        self, what: str, names: tuple[str, ...] | None, count: int, *, text: bool = False
    ) -> None:
        self._what, self._names, self._count = what, names, count
        self._text = names is not None and (text or not all(map(_NUMBER.fullmatch, names)))
        self._indices = None if names is None else {name: at for at, name in enumerate(names)}

    @classmethod
    def of_users(cls, data: Dataset) -> "Ids":
        ratings = data.ratings
        text = "user" in data.text_ids
        return cls("user", ratings.user_ids, ratings.user_count, text=text)

    @classmethod
    def of_items(cls, data: Dataset) -> "Ids":
        ratings = data.ratings
        text = "item" in data.text_ids
        return cls("item", ratings.item_ids, ratings.item_count, text=text)

    def index(self, named: Id) -> int:
        """The index of an id; a number may be given as text, and the other way round.

        Raises InputError for one that is not there, and for what is neither.
        """
        if isinstance(named, bool) or not isinstance(named, str | int | np.integer):
            raise InputError(f"{self._what} {named!r:.60}: give a whole number, or text")
        if self._indices is not None:
            found = self._indices.get(str(named))
            if found is not None:
                return found
            known = list(self._indices)[:SUGGESTED_FROM]
            near = nearest(str(named), known)
            hint = f"did you mean {near}?" if near else f"the first is {known[0]}"
            raise InputError(f"unknown {self._what} {str(named)[:60]!r}: {hint}")
        index = int(named) if _NUMBER.fullmatch(str(named)[:20]) else -1
        if not 0 <= index < self._count:
            raise InputError(f"unknown {self._what} {str(named)[:60]}: choose 0–{self._count - 1}")
        return index

    def named(self, indices: Iterable[int]) -> list[Id]:
        """The ids of some indices, numbers where all ids are."""
        if self._names is None:
            return [int(index) for index in indices]
        names = [self._names[index] for index in indices]
        return list(names) if self._text else [int(name) for name in names]
