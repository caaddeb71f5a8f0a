"""Which row of factors belongs to which user or item of some ratings: by their ids.

Shapes: U users, I items of the ratings, R rows of factors.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from server.importing.factors import Factors

SHOWN: Final = 3


@dataclass(frozen=True)
class Match:
    """Rows int64 by index in the ratings, −1 where there are no factors.

    left_out  rows of factors that no user or item of the ratings has
    by_order  whether there were no ids, so that rows are in the order of the ratings' indices
    """

    kind: str
    rows: NDArray[np.int64]
    left_out: int
    by_order: bool = False

    @property
    def known(self) -> NDArray[np.bool_]:
        """Who has factors."""
        return self.rows >= 0

    @property
    def missing(self) -> int:
        """How many of the ratings have none."""
        return int((~self.known).sum())


def ids_of(ratings: RatingMatrix, kind: str) -> tuple[str, ...]:
    """The ids of users or items; those of ratings without ids are zero-based indices."""
    names = ratings.user_ids if kind == "user" else ratings.item_ids
    count = ratings.user_count if kind == "user" else ratings.item_count
    return tuple(map(str, range(count))) if names is None else names


def matched(factors: Factors, ratings: RatingMatrix) -> Match:
    """Factors' rows for the users or items of some ratings.

    Raises InputError where none fits, and where numbers are off by one.
    """
    kind, wanted = factors.kind, ids_of(ratings, factors.kind)
    if factors.ids is None:
        if len(factors.rows) != len(wanted):
            raise InputError(
                f"{len(factors.rows)} rows of {kind} factors, and the ratings have {len(wanted)} "
                f"{kind}s: say whose they are with --{kind}-ids"
            )
        return Match(kind, np.arange(len(wanted)), 0, by_order=True)
    at = {name: row for row, name in enumerate(factors.ids)}
    rows = np.array([at.get(name, -1) for name in wanted], dtype=np.int64)
    found = int((rows >= 0).sum())
    unnamed = (ratings.user_ids if kind == "user" else ratings.item_ids) is None
    if unnamed and "0" not in at and str(len(wanted)) in at:
        raise InputError(
            f"{kind} ids run from 1 to {len(wanted)}, but this data set's are zero-based, 0 to "
            f"{len(wanted) - 1}: subtract 1, or give the file of ratings itself"
        )
    if not found:
        raise InputError(
            f"none of the {len(wanted)} {kind}s of the ratings ({_some(wanted)}) is among the "
            f"{len(factors.ids)} {kind} ids of the factors ({_some(factors.ids)})"
        )
    return Match(kind, rows, len(factors.ids) - found)


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name[:20]) for name in names[:SHOWN])
    return shown + (", …" if len(names) > SHOWN else "")
