"""PIECK (Zhang et al. 2024, "Preventing the Popular Item Embedding Based Attack in Federated
Recommendations", ICDE): popular items are found in how the table moves, and nothing else is known.

Mining of popular items (the paper's Δ-norm): rows of popular items change most in the first
rounds. The attacker adds up ‖q_i − q_i before‖ over the rounds that its clients see, and takes the
N items of the largest sums, without the targets.

PIECK-IPE, item popularity enhancement: the target is turned towards them,

    L = −Σ_{s ∈ {+, −}} (1/|P_s|) Σ_{k ∈ P_s} w_k cos(q_k, q_t)

P₊ and P₋ are the mined items whose cosine with the target is positive, or not; w falls with the
rank of the item, N, …, 1, and sums to 1.

PIECK-UEA, user embedding approximation: a mined item stands for a user who likes it,

    L = −(1/N) Σ_k ln σ(q_k · q_t)

Either is pushed as far as an honest update could go. The paper mines for the first two epochs; a
round here asks a part of the clients, and ten rounds are about as much. Until then nothing is sent.

Shapes: I items, T targets, N mined items, d embedding width.
"""

from abc import ABC, abstractmethod
from typing import final

import numpy as np
from numpy.typing import NDArray

from common.federated import Table, Update
from sims.attacks.options import check
from sims.federated.attacker import Bound, Known, pushed


class _Pieck(ABC):
    """Mining; what the mined items are good for is said below."""

    def __init__(self, known: Known, mined: int, rounds: int) -> None:
        check("mined", mined, 1)
        check("rounds", rounds, 1)
        self._targets, self._count, self._rounds = known.targets, mined, rounds
        self._before: Table | None = None
        self._moved: NDArray[np.float64] | None = None
        self._popular: NDArray[np.int64] | None = None

    def updates(
        self, table: Table, count: int, bound: Bound, *, rng: np.random.Generator
    ) -> list[Update]:
        popular = self._mined(table)
        if popular is None:
            return [Update(np.zeros(0, dtype=np.int64), table[:0])] * count
        update = pushed(self._targets, self._slopes(table[self._targets], table[popular]), bound)
        return [update] * count

    def _mined(self, table: Table) -> NDArray[np.int64] | None:
        """The most popular items, first the most popular; None while that is not known."""
        if self._popular is not None:
            return self._popular
        if self._before is None:
            self._before, self._moved = table.copy(), np.zeros(len(table))
            return None
        assert self._moved is not None
        self._moved += np.linalg.norm(table.astype(np.float64) - self._before, axis=1)
        self._before, self._rounds = table.copy(), self._rounds - 1
        if self._rounds > 0:
            return None
        order = np.argsort(-self._moved, kind="stable")
        self._popular = order[~np.isin(order, self._targets)][: self._count]
        return self._popular

    @abstractmethod
    def _slopes(self, targets: Table, popular: Table) -> Table:
        """∂L/∂q_t of rows [T, d], given the mined items' [N, d]."""


@final
class _Ipe(_Pieck):
    def _slopes(self, targets: Table, popular: Table) -> Table:
        weights = np.arange(len(popular), 0, -1) / (len(popular) * (len(popular) + 1) / 2)
        towards = popular / np.maximum(np.linalg.norm(popular, axis=1, keepdims=True), 1e-12)
        lengths = np.maximum(np.linalg.norm(targets, axis=1, keepdims=True), 1e-12)
        own = targets / lengths
        cosines = own @ towards.T
        positive = cosines > 0
        counts = np.where(
            positive, positive.sum(1, keepdims=True), (~positive).sum(1, keepdims=True)
        )
        shares = weights / counts
        # Of a cosine: what of q_k is not along q_t, over the length of q_t.
        along = (shares * cosines).sum(1, keepdims=True)
        slopes: Table = (-(shares @ towards - along * own) / lengths).astype(np.float32)
        return slopes


@final
class _Uea(_Pieck):
    def _slopes(self, targets: Table, popular: Table) -> Table:
        scores = targets @ popular.T
        slopes: Table = (-(popular.T @ (1 / (1 + np.exp(scores))).T).T / len(popular)).astype(
            np.float32
        )
        return slopes


def pieck_ipe(known: Known, *, mined: int = 10, rounds: int = 10) -> _Ipe:
    """Popularity enhancement.

    mined   N, popular items
    rounds  changes of the table that are added up before the attack begins
    """
    return _Ipe(known, mined, rounds)


def pieck_uea(known: Known, *, mined: int = 10, rounds: int = 10) -> _Uea:
    """User embedding approximation.

    mined   N, popular items
    rounds  changes of the table that are added up before the attack begins
    """
    return _Uea(known, mined, rounds)
