"""What is held out of ratings: one item a user, published with a data set or in a file of its own.

Shapes: U users, N rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError


@dataclass(frozen=True)
class HeldOut:
    """One item a user: items int32 [U], −1 where there is none; levels uint8 [U], 0 there."""

    items: NDArray[np.int32]
    levels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.items.ndim != 1 or self.items.shape != self.levels.shape:
            raise InputError("held-out items: one item and one level a user are needed")

    @classmethod
    def of(
        cls,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        levels: NDArray[np.uint8],
        user_count: int,
    ) -> "HeldOut":
        """From rows of different users."""
        held, graded = (
            np.full(user_count, -1, dtype=np.int32),
            np.zeros(user_count, dtype=np.uint8),
        )
        held[users], graded[users] = items, levels
        return cls(held, graded)

    @property
    def users(self) -> NDArray[np.int64]:
        """The users who have a held-out item, ascending."""
        return np.flatnonzero(self.items >= 0)


def chosen(
    users: NDArray[np.int64],
    tested: NDArray[np.bool_],
    times: NDArray[np.int64] | None,
    *,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], list[str]]:
    """Of rows, some of a test file: those that are used, which of them are held out, and notes.

    One rating of a user is measured: of several in the test file the latest, or one that the seed
    draws where there are no times. The others are neither trained on nor measured, and neither are
    users who have nothing to train on. Raises InputError when nothing is left to measure.
    """
    trained = np.zeros(int(users.max()) + 1, dtype=bool)
    trained[users[~tested]] = True
    usable = np.flatnonzero(tested & trained[users])
    if not len(usable):
        raise InputError("the test file holds no user of the ratings: ids differ?")
    rng = np.random.default_rng(seed)
    keys = [rng.random(len(usable)), users[usable]]
    if times is not None:
        keys.insert(1, times[usable])
    ordered = usable[np.lexsort(keys)]
    last = np.append(users[ordered][1:] != users[ordered][:-1], True)
    measured = ordered[last]
    notes = []
    if unknown := int((tested & ~trained[users]).sum()):
        notes.append(f"{unknown} test ratings left out: of users who have no other rating")
    if others := len(usable) - len(measured):
        which = "the latest" if times is not None else "one by the seed"
        notes.append(
            f"{others} test ratings left out: of several of a user {which} is measured, and the "
            "others are not trained on"
        )
    keep = ~tested
    keep[measured] = True
    take = np.flatnonzero(keep)
    return take, tested[take], notes
