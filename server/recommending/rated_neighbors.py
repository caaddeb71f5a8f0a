"""Nearest users by what they rated: the cosine of their rows of the incidence matrix.

The similarity of users u and v is n_uv / √(n_u n_v), for n_u items that u rated and n_uv that
both did. It is *pairwise*: a profile that is added is one more candidate, and changes the
similarity of no other pair, as it would through embeddings.

Neighbors are the same on every machine. For one user, similarities are ordered as the fractions
n_uv² / n_v, of which both parts are exact integers. Their quotient in double precision is correctly
rounded by IEEE 754. Two different fractions a/b and c/d differ by 1/(ad) of the first at least, so
while ad < 2⁵² they have different quotients in the right order, and equal fractions have equal
ones. That holds while n³ < 2⁵², for users with up to 165,000 ratings each.

Shapes: U users, real ones first, then whatever else was trained on; I items; k neighbors.
"""

from typing import Final, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from common.vicinal.support import scattered
from server.recommending.rated_loops import (
    RatingLists,
    changed_rows,
    most_similar,
    supported_prefix,
)
from server.recommending.rating_lists import rating_lists

# Of the order of random neighbors: fixed, so that the same user has the same ones everywhere.
ORDER_SEED: Final = np.uint64(0x9E3779B97F4A7C15)
# Rows that have changed are compared one by one, until they hold this share of all ratings.
CHANGED_SHARE: Final = 1 / 64


@final
class RatedNeighborIndex:
    """Exact search over the rows of a rating matrix, which it holds. Safe in many threads.

    lists    who rated each item, in ratings of before
    changed  users whose rows are others there, or not there, ascending
    """

    def __init__(self, ratings: RatingMatrix) -> None:
        self._take(ratings, rating_lists(ratings), np.zeros(0, dtype=np.int64))
        if ratings.user_count > 1:
            self._search(0, 2)  # compiled now, and not within the first request

    def _take(self, ratings: RatingMatrix, lists: RatingLists, changed: NDArray[np.int64]) -> None:
        self._ratings, self._lists, self._changed = ratings, lists, changed

    @property
    def description(self) -> str:
        """One line on how neighbors are searched."""
        return f"cosine of rated items, exact over {self._ratings.user_count} users"

    @property
    def nbytes(self) -> int:
        """Memory beside the ratings'."""
        return self._lists.nbytes + self._changed.nbytes

    def neighbors(self, users: ArrayLike, count: int) -> NDArray[np.int64]:
        """The `count` most similar users of each user, itself first, [B, k].

        Of equally similar users those with the smaller index come first. Raises InputError for an
        unknown user, and when there are fewer than `count` users.
        """
        asked = checked(users, count, self._ratings.user_count)
        nearest = np.empty((len(asked), count), dtype=np.int64)
        for row, user in zip(nearest, asked.tolist(), strict=True):
            row[:] = self._search(user, count)
        return nearest

    def updated(self, ratings: RatingMatrix) -> Self:
        """An index of these ratings, as a new one would be, in much less time where few are new.

        Rows may have changed, and users and items may have been added at the end. This index stays
        as it is. It makes its lists anew when rows with 1/64 of the ratings have changed.
        """
        before = self._ratings
        kept = ratings.user_count >= before.user_count and ratings.item_count >= before.item_count
        if kept:
            rows = changed_rows(before.indptr, before.items, ratings.indptr, ratings.items)
            changed = np.union1d(self._changed, rows)
            lengths = ratings.indptr[changed + 1] - ratings.indptr[changed]
            kept = bool(lengths.sum() <= CHANGED_SHARE * len(ratings))
        if not kept:
            return type(self)(ratings)
        later = object.__new__(type(self))
        later._take(ratings, self._lists, changed)
        return later

    def _search(self, user: int, count: int) -> NDArray[np.int64]:
        """The user and the `count` - 1 most similar others, [k]."""
        nearest = np.full(count, user, dtype=np.int64)
        if count == 1:
            return nearest
        ratings = self._ratings
        keys, found = most_similar(
            user,
            count - 1,
            ratings.indptr,
            ratings.items,
            ratings.item_count,
            self._lists,
            self._changed,
        )
        order = np.lexsort((found, -keys))
        similar = found[order[: np.count_nonzero(keys)]]
        nearest[1 : 1 + len(similar)] = similar
        if len(similar) < count - 1:
            # Who shares nothing comes last; among the first k users are enough of them.
            others = np.setdiff1d(np.arange(count), nearest[: 1 + len(similar)])
            nearest[1 + len(similar) :] = others[: count - 1 - len(similar)]
        return nearest


@final
class RandomNeighborIndex:
    """Users in an order drawn for every user: what any other choice has to be better than.

    The order depends on the user's index alone: users who are added come somewhere in between.
    """

    def __init__(self, ratings: RatingMatrix) -> None:
        self._users = ratings.user_count

    @property
    def description(self) -> str:
        """One line on how neighbors are chosen."""
        return f"random neighbors of {self._users} users"

    def neighbors(self, users: ArrayLike, count: int) -> NDArray[np.int64]:
        """Each user itself, then others in the user's own random order, [B, k].

        Raises InputError for an unknown user, and when there are fewer than `count` users.
        """
        asked = checked(users, count, self._users)
        nearest = np.empty((len(asked), count), dtype=np.int64)
        everybody = np.arange(self._users, dtype=np.uint64)
        for row, user in zip(nearest, asked.tolist(), strict=True):
            drawn = scattered(scattered(np.array([user], np.uint64) + ORDER_SEED) ^ everybody)
            drawn[user] = 0
            # All numbers are different but for the own one, which is set to come first.
            first = np.lexsort((everybody != user, drawn))
            row[:] = first[:count]
        return nearest

    def updated(self, ratings: RatingMatrix) -> Self:
        """The choice among the users of these ratings."""
        return type(self)(ratings)


def supporting(
    ratings: RatingMatrix,
    order: NDArray[np.int64],
    unrated: NDArray[np.bool_],
    support: int,
    items: int,
) -> int:
    """How many users of `order` [n] have to be taken, from the first on, to support enough items.

    unrated  which items count, [I]
    support  by how many of the users taken an item has to be rated
    items    how many such items there have to be

    All of them, n, if even they do not suffice. Raises InputError for numbers below 1, for users
    who are unknown, and for another number of items.
    """
    if min(support, items) < 1:
        raise InputError(f"support {support} of {items} items: both must be at least 1")
    if unrated.shape != (ratings.item_count,):
        raise InputError(f"unrated items: {unrated.shape}, not ({ratings.item_count},)")
    if len(order) and not 0 <= int(order.min()) <= int(order.max()) < ratings.user_count:
        raise InputError(f"unknown user in an order: choose 0–{ratings.user_count - 1}")
    return supported_prefix(order, ratings.indptr, ratings.items, unrated, support, items)


def checked(users: ArrayLike, count: int, total: int) -> NDArray[np.int64]:
    """The users asked for, [B]. Raises InputError, as a search does."""
    asked = np.asarray(users, dtype=np.int64)
    if not 1 <= count <= total:
        raise InputError(f"k = {count} neighbors asked of {total} users: choose 1–{total}")
    for user in asked.tolist():
        if not 0 <= user < total:
            raise InputError(f"unknown user {user}: choose 0–{total - 1}")
    return asked
