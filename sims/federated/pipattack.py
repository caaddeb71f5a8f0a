"""PipAttack (Zhang et al. 2022, "PipAttack: Poisoning Federated Recommender Systems for
Manipulating Item Promotion", WSDM): the target is made to look like a popular item.

    L = L_exp + α L_pop

Explicit promotion: every malicious client has a vector p of its own, which it trains, too, and
raises its score of the target, L_exp = −ln σ(p · q_t).

Popularity obfuscation: which items are popular is public. A classifier of one hidden layer learns
from the items' rows which level of popularity an item has, a little further in every round, and
L_pop = −ln of the chance that it gives the target of the highest level.

Distance constraint: the paper holds a malicious update near honest ones, here by the bound that
all attacks keep.

Shapes: I items, T targets, G levels, M malicious clients, h hidden units, d embedding width.
"""

from typing import Final, final

import numpy as np
import torch

from common.federated import Table, Update
from sims.attacks.options import check
from sims.federated.attacker import Bound, Known, pushed

_HIDDEN: Final = 32
# Of Adam, and in a round.
_RATE: Final = 0.01
_STEPS: Final = 20


@final
class _PipAttack:
    def __init__(self, known: Known, weight: float, levels: int, rate: float) -> None:
        check("weight", weight, 0)
        check("levels", levels, 2, 100)
        check("rate", rate, 0)
        torch.set_num_threads(1)
        self._targets, self._weight, self._rate = known.targets, weight, rate
        order = np.argsort(np.argsort(known.popularity, kind="stable"), kind="stable")
        self._levels = torch.from_numpy(order * levels // max(len(order), 1))
        # What a target is known to be would only hold it where it is.
        self._others = np.setdiff1d(np.arange(len(order)), known.targets)
        self._classifier: torch.nn.Sequential | None = None
        self._optimizer: torch.optim.Adam | None = None
        self._highest, self._vectors = levels - 1, np.zeros((0, known.width), dtype=np.float32)

    def updates(
        self, table: Table, count: int, bound: Bound, *, rng: np.random.Generator
    ) -> list[Update]:
        classifier = self._learned(table, rng)
        rows = torch.from_numpy(table[self._targets].copy()).requires_grad_()
        wanted = torch.full((len(rows),), self._highest)
        loss = torch.nn.functional.cross_entropy(classifier(rows), wanted, reduction="sum")
        (popular,) = torch.autograd.grad(loss, rows)
        missing = max(count - len(self._vectors), 0)
        fresh = rng.normal(0, 0.1, (missing, table.shape[1])).astype(np.float32)
        self._vectors = np.concatenate([self._vectors, fresh])
        targets, made = table[self._targets], []
        for client in range(count):
            vector = self._vectors[client]
            doubts = 1 / (1 + np.exp(targets @ vector))
            slopes = -np.outer(doubts, vector) + self._weight * popular.numpy()
            self._vectors[client] = vector + np.float32(self._rate) * (doubts @ targets)
            made.append(pushed(self._targets, slopes.astype(np.float32), bound))
        return made

    def _learned(self, table: Table, rng: np.random.Generator) -> torch.nn.Sequential:
        """The classifier, after some more steps with the table as it is."""
        if self._classifier is None:
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            layers = [
                torch.nn.Linear(table.shape[1], _HIDDEN),
                torch.nn.Linear(_HIDDEN, self._highest + 1),
            ]
            for layer in layers:
                torch.nn.init.xavier_uniform_(layer.weight, generator=generator)
                torch.nn.init.zeros_(layer.bias)
            self._classifier = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
            self._optimizer = torch.optim.Adam(self._classifier.parameters(), lr=_RATE)
        assert self._optimizer is not None
        rows, levels = torch.from_numpy(table[self._others]), self._levels[self._others]
        for _ in range(_STEPS):
            self._optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(self._classifier(rows), levels)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        return self._classifier


def pipattack(
    known: Known, *, weight: float = 1.0, levels: int = 5, rate: float = 1.0
) -> _PipAttack:
    """The attack.

    weight  α of popularity obfuscation
    levels  G of popularity, of equally many items
    rate    of the malicious clients' own vectors
    """
    return _PipAttack(known, weight, levels, rate)
