"""Items and users by the ids that people know, `id:B104729`, and digests of who has which index.

The wire and profiles files have indices. They mean nothing for other ratings, so that a digest goes
with them.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from common.ids import Named, Names, ids_digest, indices_of
from common.ratings import RatingMatrix

SHORT: Final = 16


def item_indices(ratings: RatingMatrix, named: Iterable[Named]) -> tuple[int, ...]:
    """Indices of items that are named by index, or as `id:B104729` where they have ids.

    Raises InputError for an id that no item has, with the nearest that one has.
    """
    return indices_of(named, ratings.item_ids, None, kind="item", option="targets")


def user_indices(ratings: RatingMatrix, named: Iterable[Named]) -> tuple[int, ...]:
    """The same of users; raises InputError for an index that no user has, too."""
    ids, count = ratings.user_ids, ratings.user_count
    return indices_of(named, ids, count, kind="user", option="users")


def item_names(ratings: RatingMatrix, indices: Iterable[int]) -> list[str]:
    """The ids of some items; of those without any the indices."""
    names = Names(ratings.item_ids)
    return [names.id_of(index) for index in indices]


def items_digest(ratings: RatingMatrix) -> str:
    """Of which item has which index."""
    return ids_digest(ratings.item_ids, ratings.item_count)[:SHORT]


def data_digest(ratings: RatingMatrix) -> str:
    """Of all ratings, and of who and what has which index."""
    parts = (
        ratings.digest(),
        ids_digest(ratings.user_ids, ratings.user_count)[:SHORT],
        items_digest(ratings),
    )
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
