"""FedRecAttack (Rong et al. 2022, "FedRecAttack: Model Poisoning Attack to Federated
Recommendation", ICDE): users' vectors are approximated from the interactions that are public.

Approximation of users (section IV, "Approximating users' feature matrix"): with the server's table
held as it is, vectors U' are fitted to the public ratings by BPR, a little further in every round.

Loss: with R_u the K items that u' would be recommended, targets and its public items aside,

    L = Σ_u Σ_{t not rated in public} g(min_{j ∈ R_u} u' · q_j − u' · q_t),
    g(x) = x for x ≥ 0, e^x − 1 otherwise

Upload: the slope of L is of many rows. Every client takes the targets and others, drawn once in
proportion to the length of their slope, up to as many as an honest update has; what its rows, cut
to the length of honest ones, have done is subtracted from the slope before the next client's turn.

Shapes: V users with public ratings, n public ratings, I items, T targets, d embedding width.
"""

from typing import final

import numpy as np
from numpy.typing import NDArray

from common.federated import Table, Update, clipped
from sims.attacks.options import check
from sims.federated.attacker import Bound, Known

# Of Adam, which the paper fits the users' vectors with.
_DECAYS = (0.9, 0.999)


@final
class _FedRecAttack:
    def __init__(self, known: Known, rate: float, list_length: int) -> None:
        check("rate", rate, 1e-9)
        check("list_length", list_length, 1)
        self._targets, self._rate, self._length = known.targets, rate, list_length
        users = np.flatnonzero(np.diff(known.public.indptr))
        self._public = known.public.rows(users)
        self._vectors: Table | None = None
        self._moments = [np.zeros((len(users), known.width), dtype=np.float32) for _ in range(2)]
        self._fits = 0
        self._chosen: dict[int, NDArray[np.int64]] = {}

    def updates(
        self, table: Table, count: int, bound: Bound, *, rng: np.random.Generator
    ) -> list[Update]:
        self._fit(table, rng)
        left = -self._slope(table)
        made = []
        for client in range(count):
            items = self._items(client, left, bound.rows, rng)
            update = bound.kept(items, clipped(left[items], bound.row_norm))
            left[update.items] -= update.rows
            made.append(update)
        return made

    def _fit(self, table: Table, rng: np.random.Generator) -> None:
        """One pass of Adam over the public ratings, each beside an item that is not public."""
        users, rated = self._public.users, self._public.items
        if self._vectors is None:
            shape = (self._public.user_count, table.shape[1])
            self._vectors = rng.normal(0, 0.01, shape).astype(np.float32)
        other = rng.integers(0, len(table), len(rated))
        gaps = table[rated] - table[other]
        scores = np.einsum("nd,nd->n", self._vectors[users], gaps)
        slope = np.zeros_like(self._vectors)
        np.add.at(slope, users, -gaps / (1 + np.exp(scores))[:, None])
        self._fits += 1
        first, second = self._moments
        first += (1 - _DECAYS[0]) * (slope - first)
        second += (1 - _DECAYS[1]) * (slope * slope - second)
        step = first / (1 - _DECAYS[0] ** self._fits)
        scale = np.sqrt(second / (1 - _DECAYS[1] ** self._fits)) + 1e-8
        self._vectors = (self._vectors - self._rate * step / scale).astype(np.float32)

    def _slope(self, table: Table) -> Table:
        """∂L/∂Q, [I, d]."""
        assert self._vectors is not None
        scores = self._vectors @ table.T
        aside = np.zeros(scores.shape, dtype=bool)
        aside[self._public.users, self._public.items] = True
        wanted = ~aside[:, self._targets]
        shown = np.where(aside, -np.inf, scores)
        shown[:, self._targets] = -np.inf
        length = min(self._length, len(table) - len(self._targets))
        order = np.argpartition(-shown, length - 1, axis=1)[:, :length]
        values = np.take_along_axis(shown, order, axis=1)
        last = np.take_along_axis(order, values.argmin(1, keepdims=True), axis=1)[:, 0]
        gaps = np.take_along_axis(scores, last[:, None], axis=1) - scores[:, self._targets]
        weights = np.where(gaps >= 0, 1, np.exp(np.minimum(gaps, 0))) * wanted
        slope = np.zeros_like(table)
        slope[self._targets] = -(weights.T @ self._vectors)
        np.add.at(slope, last, weights.sum(1, keepdims=True) * self._vectors)
        return slope

    def _items(
        self, client: int, left: Table, rows: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """A client's items: the same in every round, as an honest one's, unless it may send fewer.

        Targets come first.
        """
        if client not in self._chosen:
            lengths = np.linalg.norm(left.astype(np.float64), axis=1)
            lengths[self._targets] = 0
            room = min(max(rows - len(self._targets), 0), int((lengths > 0).sum()))
            others = np.zeros(0, dtype=np.int64)
            if room:
                others = rng.choice(len(left), room, replace=False, p=lengths / lengths.sum())
            self._chosen[client] = np.concatenate([self._targets, others]).astype(np.int64)
        return self._chosen[client]


def fedrecattack(known: Known, *, rate: float = 0.05, list_length: int = 10) -> _FedRecAttack:
    """The attack; how many ratings are public is an option of every attack (registry).

    rate         Adam's, of the approximated vectors
    list_length  K, of the lists that the targets are to get into
    """
    return _FedRecAttack(known, rate, list_length)
