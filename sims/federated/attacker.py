"""Whoever controls malicious clients: what it knows, and how much its updates may weigh.

Shapes: I items, T targets, d embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from common.federated import Table, Update, clipped
from common.ratings import RatingMatrix

# Longest row, where no honest client was asked in a round.
_EPSILON: Final = 1e-12


@final
@dataclass(frozen=True)
class Bound:
    """What honest clients of a round sent at most; a malicious update keeps all three.

    rows      how many rows an update has, mean of the honest
    row_norm  length of the longest row
    norm      length of the longest update
    """

    rows: int
    row_norm: float
    norm: float

    @classmethod
    def of(cls, honest: Sequence[Update], row_norm: float) -> "Bound":
        """Of a round's honest updates; without any, of what the server lets through: `row_norm`."""
        if not any(len(each.items) for each in honest):
            return cls(1, row_norm, row_norm)
        rows = round(float(np.mean([len(each.items) for each in honest])))
        longest = max(float(each.row_norms.max(initial=0)) for each in honest)
        return cls(max(rows, 1), longest, max(each.norm for each in honest))

    def kept(self, items: NDArray[np.int64], rows: Table) -> Update:
        """The update that is nearest to these rows: the longest of them, and those shortened."""
        lengths = np.linalg.norm(rows, axis=1)
        longest = np.sort(np.argsort(-lengths, kind="stable")[: self.rows])
        items, rows = items[longest], clipped(rows[longest], self.row_norm)
        order = np.argsort(items)
        whole = float(np.linalg.norm(rows.astype(np.float64)))
        # A little less, for what float32 rounds up.
        share = min(1.0, 0.999999 * self.norm / max(whole, _EPSILON))
        return Update(items[order].astype(np.int64), (rows[order] * share).astype(np.float32))


@final
@dataclass(frozen=True)
class Known:
    """What an attacker is told before the first round; each attack says what of it it uses.

    targets     items to be shown to more users, [T]
    public      some ratings of real users, which everybody can see
    popularity  number of ratings of every item by real users, [I]
    width       d
    """

    targets: NDArray[np.int64]
    public: RatingMatrix
    popularity: NDArray[np.int64]
    width: int


class Attacker(Protocol):
    """Makes the updates of all malicious clients that are asked in a round."""

    def updates(
        self, table: Table, count: int, bound: Bound, *, rng: np.random.Generator
    ) -> list[Update]:
        """`count` updates, each within the bound; `table` [I, d] is the server's."""
        ...


def pushed(targets: NDArray[np.int64], slopes: Table, bound: Bound) -> Update:
    """Down the slopes of the targets' rows [T, d], as far as the bound lets them go."""
    lengths = np.linalg.norm(slopes, axis=1, keepdims=True)
    steps = -slopes / np.maximum(lengths, np.float32(_EPSILON)) * np.float32(bound.row_norm)
    return bound.kept(targets, steps.astype(np.float32))
