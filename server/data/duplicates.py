"""Pairs of a user and an item that a file rates more than once.

Shapes: N rows, G pairs that occur more than once.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from server.data.triples import Triples


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

    def settled(self, how: str, rows: Triples) -> Triples:
        """One row of each pair: the latest, the first, or the mean with the latest time."""
        ends = np.append(self.starts[1:], len(self.order))
        kept = self.order[ends - 1 if how != "first" else self.starts]
        levels = rows.levels
        chosen = levels[kept]
        if how == "mean":
            sums = np.add.reduceat(levels[self.order].astype(np.int64), self.starts)
            # Halves upwards, so that the order of rows does not matter.
            chosen = np.floor(sums / (ends - self.starts) + 0.5).astype(np.uint8)
        return replace(rows.take(kept), levels=chosen)

    def groups_across(self, first_test: int) -> NDArray[np.int64]:
        """A row of each pair that is both below and from `first_test` on; the later one."""
        least = np.minimum.reduceat(self.order, self.starts)
        most = np.maximum.reduceat(self.order, self.starts)
        return np.sort(most[(least < first_test) & (most >= first_test)])


def repeats_of(rows: Triples) -> Repeats | Triples:
    """What occurs again; the rows by pair where nothing does."""
    levels, times = rows.levels, rows.times
    pairs = rows.users.astype(np.int64)
    pairs *= int(rows.items.max(initial=0)) + 1
    pairs += rows.items
    if (pairs[1:] > pairs[:-1]).all():
        return rows
    order = pl.Series(pairs).arg_sort().to_numpy()
    ordered = pairs[order]
    again = ordered[1:] == ordered[:-1]
    if not again.any():
        return rows.take(order)
    # polars leaves the order of equal ones open.
    order = np.argsort(pairs, kind="stable") if times is None else np.lexsort((times, pairs))
    starts = np.flatnonzero(np.concatenate([[True], ~again]))
    differs = levels[order][1:] != levels[order][:-1]
    if times is not None:
        differs |= times[order][1:] != times[order][:-1]
    conflict = again & differs
    group = np.cumsum(np.concatenate([[True], ~again])) - 1
    conflicts = len(np.unique(group[1:][conflict]))
    first = (0, 0)
    if conflicts:
        # Of the rows that come again, the one with the lowest line.
        places = np.flatnonzero(conflict)
        both = np.stack([order[places], order[places + 1]])
        at = int(np.argmin(both.max(axis=0)))
        first = int(both[:, at].max()), int(both[:, at].min())
    return Repeats(order, starts, int((again & ~differs).sum()), conflicts, first)
