"""The vicinal defense of any torch module, on the server's side.

The models of this project have a fine-tune of their own, which devices run too
(common.vicinal.tuning). This one needs nothing of a module but embeddings and predicted ratings,
and takes gradients from autograd: a functional copy of all its parameters is fine-tuned for every
request, and thrown away (paper, Algorithm 1).

Shapes: U users, I items, B rows, k neighbors, d embedding width.
"""

from collections.abc import Callable
from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call

from common.errors import InputError
from common.ranking import top_items
from common.ratings import RatingMatrix
from server.recommending.neighbors import NeighborIndex

# Dense rows that are encoded at a time.
USERS_PER_CHUNK = 256

# From predicted ratings and rows of ratings, both [B, I], to a number; unrated is 0.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class RowModel(Protocol):
    """What a torch.nn.Module must offer; rows are ratings as fractions of the maximum, [B, I]."""

    def embed(self, rows: torch.Tensor) -> torch.Tensor:
        """Where the rows lie for the neighbor search, [B, d]."""
        ...

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Predicted ratings of every item, [B, I]."""
        ...


def vicinal_loss(unrated_weight: float) -> Loss:
    """L_N of common.vicinal.tuning, without its λ.

    >>> rows, predicted = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    >>> float(vicinal_loss(0.5)(predicted, rows))
    0.375
    """

    def loss(predicted: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        rated = rows > 0
        weights = torch.where(rated, 1.0, unrated_weight)
        errors: torch.Tensor = weights * (predicted - rows).square()
        return errors.sum() / rated.sum().clamp(min=1)

    return loss


@final
class GenericVicinal:
    """A trained module with the ratings that it was trained on.

    module         a torch.nn.Module that is a RowModel, in eval mode; it stays as it is
    ratings        all users, real ones first
    neighbors      k, the user itself included
    learning_rate  of Adam, from a fresh state for every request
    """

    def __init__(
        self,
        module: torch.nn.Module,
        ratings: RatingMatrix,
        *,
        neighbors: int,
        steps: int,
        learning_rate: float,
        loss: Loss,
    ) -> None:
        """Raises InputError for a module that lacks `embed` or is in training mode."""
        embed = getattr(module, "embed", None)
        if embed is None:
            raise InputError("own model: give the module a method embed(rows) -> [B, d]")
        if module.training:
            raise InputError("own model: call module.eval() first, or it would answer by chance")
        self._module, self._ratings, self._loss = module, ratings, loss
        self._neighbors, self._steps, self._rate = neighbors, steps, learning_rate
        chunks = np.array_split(
            np.arange(ratings.user_count), -(-ratings.user_count // USERS_PER_CHUNK)
        )
        with torch.no_grad():
            embeddings = [embed(self._rows(users)).numpy() for users in chunks]
        self._index = NeighborIndex(np.concatenate(embeddings))

    def scores(self, user: int) -> NDArray[np.float32]:
        """Predicted ratings of every item by the copy fine-tuned for a user, [I].

        The copy is the best that was met on the way, so its loss is never above the module's.
        Raises InputError for an unknown user.
        """
        if not 0 <= user < self._ratings.user_count:
            raise InputError(f"unknown user {user}: choose 0–{self._ratings.user_count - 1}")
        rows = self._rows(self._index.neighbors([user], self._neighbors)[0])
        copy = {name: p.detach().clone() for name, p in self._module.named_parameters()}
        buffers = {name: b.clone() for name, b in self._module.named_buffers()}
        optimizer = torch.optim.Adam([p.requires_grad_() for p in copy.values()], lr=self._rate)
        best = torch.inf
        for step in range(self._steps + 1):
            predicted = functional_call(self._module, {**copy, **buffers}, (rows,))
            loss = self._loss(predicted, rows)
            if float(loss.detach()) < best:
                best, scores = float(loss.detach()), predicted.detach()[0]
            if step < self._steps:
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        if best == torch.inf:
            raise InputError("own model: its loss is not a finite number")
        found: NDArray[np.float32] = scores.numpy()
        return found

    def recommend(self, user: int, list_length: int) -> NDArray[np.int64]:
        """The top K among what the user has not rated, best first. Raises InputError."""
        return top_items(self.scores(user), self._ratings.items_of(user), list_length)

    def _rows(self, users: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self._ratings.rows(users).dense())
