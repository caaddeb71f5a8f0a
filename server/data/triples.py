"""Ratings as rows of user, item and level, before they are a matrix: what is taken of them.

Shapes: N rows, U users, I items.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix, RatingScale


@dataclass(frozen=True)
class Triples:
    """Indices of users and items, and levels, of N rows.

    times   seconds [N]; None where there are none
    tested  which rows are held out of training [N]
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    levels: NDArray[np.uint8]
    times: NDArray[np.int64] | None
    tested: NDArray[np.bool_]

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> "Triples":
        """Some of the rows, by index or by mask."""
        times = None if self.times is None else self.times[rows]
        return Triples(
            self.users[rows], self.items[rows], self.levels[rows], times, self.tested[rows]
        )

    def matrix(
        self,
        scale: RatingScale,
        shape: tuple[int, int],
        user_ids: tuple[str, ...] | None,
        item_ids: tuple[str, ...] | None,
    ) -> RatingMatrix:
        """The same ratings; rows have to be in the order of a matrix: by user, then item."""
        edges = np.arange(shape[0] + 1, dtype=self.users.dtype)
        indptr = np.searchsorted(self.users, edges).astype(np.int64)
        items = self.items.astype(np.int32, copy=False)
        return RatingMatrix(indptr, items, self.levels, shape[1], scale, user_ids, item_ids)

    def core(self, least: int) -> NDArray[np.bool_]:
        """Which rows [N] are left when users and items with fewer go, again and again.

        >>> rows = Triples(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]),
        ...                np.zeros(5, np.uint8), None, np.zeros(5, bool))
        >>> rows.core(2).tolist()
        [True, True, True, True, False]
        """
        kept = np.ones(len(self.users), dtype=bool)
        left = len(kept) + 1
        while int(kept.sum()) < left:
            left = int(kept.sum())
            for each in (self.users, self.items):
                few = np.bincount(each[kept], minlength=int(each.max(initial=0)) + 1) < least
                kept &= ~few[each]
        return kept

    def compacted(
        self, user_names: tuple[str, ...], item_names: tuple[str, ...]
    ) -> tuple["Triples", tuple[str, ...], tuple[str, ...]]:
        """Without the users and items that no row has, and the names of those that are left."""
        left_users, users = np.unique(self.users, return_inverse=True)
        left_items, items = np.unique(self.items, return_inverse=True)
        rows = Triples(
            users.astype(np.int32), items.astype(np.int32), self.levels, self.times, self.tested
        )
        return (
            rows,
            tuple(user_names[at] for at in left_users),
            tuple(item_names[at] for at in left_items),
        )


def chosen(rows: Triples, *, seed: int) -> tuple[Triples, list[str]]:
    """The rows that are used when some are held out, one of a user at most; and notes.

    Of several in the test file the latest is measured, or one that the seed draws where there are
    no times. The others are neither trained on nor measured, and neither are users who have
    nothing to train on. None of them is left when nobody has.
    """
    users, tested = rows.users, rows.tested
    trained = np.zeros(int(users.max()) + 1, dtype=bool)
    trained[users[~tested]] = True
    usable = np.flatnonzero(tested & trained[users])
    keys: list[NDArray[Any]] = [np.random.default_rng(seed).random(len(usable)), users[usable]]
    if rows.times is not None:
        keys.insert(1, rows.times[usable])
    ordered = usable[np.lexsort(keys)]
    last = np.append(users[ordered][1:] != users[ordered][:-1], [True] * min(len(ordered), 1))
    measured = ordered[last]
    notes = []
    if unknown := int((tested & ~trained[users]).sum()):
        notes.append(f"{unknown} test ratings left out: of users who have no other rating")
    if others := len(usable) - len(measured):
        which = "the latest" if rows.times is not None else "one by the seed"
        notes.append(
            f"{others} test ratings left out: of several of a user {which} is measured, and the "
            "others are not trained on"
        )
    keep = ~tested
    keep[measured] = True
    return rows.take(keep), notes
