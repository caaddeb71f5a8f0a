"""Items by the ids that people know, `id:B104729`, and a digest of which item has which index.

The wire and profiles files have indices. They mean nothing for other ratings, so that a digest goes
with them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from common.errors import InputError
from common.names import nearest
from common.ratings import RatingMatrix

PREFIX: Final = "id:"
SUGGESTED_FROM: Final = 20_000
SHORT: Final = 16


def item_indices(ratings: RatingMatrix, named: Iterable[int | str]) -> tuple[int, ...]:
    """Indices of items that are named by index, or as `id:B104729` where they have ids.

    Raises InputError for an id that no item has, with the nearest that one has.
    """
    words = list(named)
    if all(isinstance(word, int) for word in words):
        return tuple(int(word) for word in words)
    ids = ratings.item_ids
    if ids is None:
        raise InputError("targets: these items have no ids: name them by index, without id:")
    index = {name: at for at, name in enumerate(ids)}
    found = []
    for word in words:
        name = word if isinstance(word, int) else word.removeprefix(PREFIX)
        if isinstance(name, str) and name not in index:
            near = nearest(name, ids[:SUGGESTED_FROM])
            hint = f"did you mean {near}?" if near else f"the first is {ids[0]}"
            raise InputError(f"targets: no item has the id {name[:60]!r}: {hint}")
        found.append(index[name] if isinstance(name, str) else name)
    return tuple(found)


def item_names(ratings: RatingMatrix, indices: Iterable[int]) -> list[str]:
    """The ids of some items; of those without any the indices."""
    ids = ratings.item_ids
    return [str(at) if ids is None else ids[at] for at in indices]


def items_digest(ratings: RatingMatrix) -> str:
    """Of which item has which index."""
    return _digest(ratings.item_ids, ratings.item_count)


def data_digest(ratings: RatingMatrix) -> str:
    """Of all ratings, and of who and what has which index."""
    parts = (
        ratings.digest(),
        _digest(ratings.user_ids, ratings.user_count),
        items_digest(ratings),
    )
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _digest(ids: Sequence[str] | None, count: int) -> str:
    hasher = hashlib.sha256(str(count).encode())
    for name in ids or ():
        # With its length, so that no two lists are written alike.
        data = name.encode()
        hasher.update(b"%d:" % len(data))
        hasher.update(data)
    return hasher.hexdigest()[:SHORT]
