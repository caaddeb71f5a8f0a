"""The vicinal defense of any torch module, on the server's side.

The models of this project have a fine-tune of their own, which devices run too
(common.vicinal.tuning). This one needs nothing of a module but embeddings and predicted ratings,
and takes gradients from autograd: a functional copy of all its parameters is fine-tuned for every
request, and thrown away (paper, Algorithm 1).

Shapes: U users, I items, B rows, k neighbors, d embedding width.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.func import functional_call

from common.errors import InputError, VicinalError
from common.ranking import top_items
from common.ratings import RatingMatrix
from common.vicinal.settings import Space, VicinalSettings
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

    module      a torch.nn.Module that is a RowModel, in eval mode; it stays as it is
    ratings     every row that training saw; the first `user_count` can be asked for
    user_count  real users; what comes after them is only ever somebody's neighbor
    loss        what is fine-tuned on; None is vicinal_loss with the settings' unrated weight
    """

    def __init__(
        self,
        module: torch.nn.Module,
        ratings: RatingMatrix,
        user_count: int | None = None,
        *,
        loss: Loss | None = None,
    ) -> None:
        """Raises InputError for a module that is in training mode, lacks `embed`, fails, or does
        not give rows of embeddings and of predicted ratings.
        """
        if not callable(getattr(module, "embed", None)):
            raise InputError("own model: give the module a method embed(rows) -> [B, d]")
        if module.training:
            raise InputError("own model: call module.eval() first, or it would answer by chance")
        self.ratings = ratings
        self.user_count = ratings.user_count if user_count is None else user_count
        self._module, self._loss = module, loss
        with torch.no_grad():
            first = self._rows(np.arange(min(ratings.user_count, USERS_PER_CHUNK)))
            with _called("forward(rows)", ratings.item_count):
                predicted = module(first)
            _check_shape("forward", predicted, (len(first), ratings.item_count))
        self._index = NeighborIndex(self.user_embeddings())

    def user_embeddings(self) -> NDArray[np.float32]:
        """Where all users lie for the neighbor search, real ones first, [U, d]."""
        embed: Callable[[torch.Tensor], object] = getattr(self._module, "embed")  # noqa: B009
        ratings = self.ratings
        chunks = np.array_split(
            np.arange(ratings.user_count), -(-ratings.user_count // USERS_PER_CHUNK)
        )
        with torch.no_grad(), _called("embed(rows)", ratings.item_count):
            embeddings = [
                _check_shape("embed", embed(self._rows(users)), (len(users), None)).numpy()
                for users in chunks
            ]
        return np.concatenate(embeddings).astype(np.float32)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the module's parameters and buffers."""
        hasher = hashlib.sha256()
        for name, tensor in sorted(self._module.state_dict().items()):
            hasher.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            hasher.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return hasher.hexdigest()

    def recommend(
        self, user: int, settings: VicinalSettings, list_length: int
    ) -> NDArray[np.int64]:
        """The top K among what the user has not rated, best first. Raises InputError."""
        scores = self.scores(user, settings)
        return top_items(scores, self.ratings.items_of(user), list_length)

    def recommend_undefended(self, user: int, list_length: int) -> NDArray[np.int64]:
        """The top K of the module as it is. Raises InputError."""
        return top_items(self.plain_scores(user), self.ratings.items_of(user), list_length)

    def nearest(
        self, users: NDArray[np.int64], count: int, space: Space = "embedding"
    ) -> NDArray[np.int64]:
        """Indices of the nearest users, [B, k]; those from `user_count` on are not real.

        Raises InputError for another space than the module's own.
        """
        if space != "embedding":
            raise InputError("own model: users are near each other in its embeddings alone")
        return self._index.neighbors(users, count)

    def plain_scores(self, user: int) -> NDArray[np.float32]:
        """Predicted ratings of every item by the module as it is, [I]."""
        self._check_user(user)
        with torch.no_grad(), _called("forward(rows)", self.ratings.item_count):
            scores: NDArray[np.float32] = self._module(self._rows([user]))[0].numpy()
        return scores

    def scores(self, user: int, settings: VicinalSettings) -> NDArray[np.float32]:
        """Predicted ratings of every item by the copy fine-tuned for a user, [I].

        settings  k, T and α, with the step rule adam, from a fresh state for every request

        The copy is the best that was met on the way, so its loss is never above the module's.
        Raises InputError for an unknown user, and for settings of another fine-tune.
        """
        self._check_user(user)
        if settings.step_rule != "adam" or settings.min_support != 1 or settings.proximal_weight:
            raise InputError(
                "own model: its fine-tune has k, steps, learning rate and unrated weight alone"
            )
        rows = self._rows(self._index.neighbors([user], settings.neighbors)[0])
        measure = self._loss or vicinal_loss(settings.unrated_weight)
        copy = {name: p.detach().clone() for name, p in self._module.named_parameters()}
        buffers = {name: b.clone() for name, b in self._module.named_buffers()}
        rate = settings.learning_rate
        optimizer = torch.optim.Adam([p.requires_grad_() for p in copy.values()], lr=rate)
        best = torch.inf
        for step in range(settings.steps + 1):
            with _called("forward(rows)", self.ratings.item_count):
                predicted = functional_call(self._module, {**copy, **buffers}, (rows,))
            with _called("its loss", self.ratings.item_count):
                loss = measure(predicted, rows)
                reached = float(loss.detach())
            if reached < best:
                best, scores = reached, predicted.detach()[0]
            if step < settings.steps:
                optimizer.zero_grad()
                with _called("its gradient", self.ratings.item_count):
                    loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        if best == torch.inf:
            raise InputError("own model: its loss is not a finite number")
        found: NDArray[np.float32] = scores.numpy()
        return found

    def _rows(self, users: ArrayLike) -> torch.Tensor:
        return torch.from_numpy(self.ratings.rows(users).dense())

    def _check_user(self, user: int) -> None:
        if not 0 <= user < self.user_count:
            raise InputError(f"unknown user {user}: choose 0–{self.user_count - 1}")


@contextmanager
def _called(what: str, items: int) -> Iterator[None]:
    """Somebody else's code runs. Raises InputError for whatever it raises, in one line."""
    try:
        yield
    except VicinalError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"own model: {what} over {items} items fails: {type(error).__name__}: {reason}"
        ) from error


def _check_shape(method: str, given: object, wanted: tuple[int, int | None]) -> torch.Tensor:
    """Raises InputError for what is not a tensor of so many rows and columns; None is any."""
    rows, columns = wanted
    shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
    fits = isinstance(shape, tuple) and len(shape) == 2 and shape[0] == rows
    if not fits or (columns is not None and shape[1] != columns):
        expected = f"[{rows}, {'d' if columns is None else columns}]"
        raise InputError(f"own model: {method}(rows) gives {shape}, where {expected} is expected")
    assert isinstance(given, torch.Tensor)
    return given
