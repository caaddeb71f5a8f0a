"""Pairs of a user and an item that a file rates more than once.

Shapes: N rows, G pairs that occur more than once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Repeats:
    """What occurs again.

    order      all rows by pair; those of a pair by time, and among equals by line [N]
    starts     where in the order each pair begins
    same       rows that are exactly as another one of the pair
    conflicts  pairs whose rows differ, in rating or in time
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    same: int
    conflicts: int
    first_conflict: tuple[int, int]

    def settled(
        self, how: str, levels: NDArray[np.uint8]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The rows that stay, ascending, and their levels: the latest, the first, or the mean."""
        ends = np.append(self.starts[1:], len(self.order))
        kept = self.order[ends - 1 if how != "first" else self.starts]
        chosen = levels[kept]
        if how == "mean":
            sums = np.add.reduceat(levels[self.order].astype(np.int64), self.starts)
            # Halves upwards, so that the order of rows does not matter.
            chosen = np.floor(sums / (ends - self.starts) + 0.5).astype(np.uint8)
        ascending = np.argsort(kept)
        return kept[ascending], chosen[ascending]

    def groups_across(self, first_test: int) -> NDArray[np.int64]:
        """A row of each pair that is both below and from `first_test` on; the later one."""
        least = np.minimum.reduceat(self.order, self.starts)
        most = np.maximum.reduceat(self.order, self.starts)
        return np.sort(most[(least < first_test) & (most >= first_test)])


def repeats_of(
    pairs: NDArray[np.int64], levels: NDArray[np.uint8], times: NDArray[np.int64] | None
) -> Repeats | None:
    """Of rows' pairs [N], levels and times; None where every pair occurs once."""
    order = np.argsort(pairs, kind="stable")
    again = pairs[order][1:] == pairs[order][:-1]
    if not again.any():
        return None
    if times is not None:
        order = np.lexsort((times, pairs))
    starts = np.flatnonzero(np.concatenate([[True], ~again]))
    differs = levels[order][1:] != levels[order][:-1]
    if times is not None:
        differs |= times[order][1:] != times[order][:-1]
    conflict = again & differs
    group = np.cumsum(np.concatenate([[True], ~again])) - 1
    conflicts = int(len(np.unique(group[1:][conflict])))
    first = (0, 0)
    if conflicts:
        # Of the rows that come again, the one with the lowest line.
        places = np.flatnonzero(conflict)
        both = np.stack([order[places], order[places + 1]])
        at = int(np.argmin(both.max(axis=0)))
        first = int(both[:, at].max()), int(both[:, at].min())
    return Repeats(order, starts, int((again & ~differs).sum()), conflicts, first)
