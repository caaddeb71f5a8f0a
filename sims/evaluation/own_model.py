"""A model of one's own in a study: how it is trained, on whatever ratings a study has.

Shapes: U users, I items, B rows.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from common.errors import InputError, VicinalError
from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings
from server.recommending.own_model import GenericVicinal, Loss, vicinal_loss
from sims.functions import failure, label, load_function

# fit(ratings, *, seed) -> torch.nn.Module, trained
Fit = Callable[..., torch.nn.Module]
# What `preset` says of a study of such a model.
OWN_PRESET: Final = "own"
SETTINGS: Final = VicinalSettings(40, 0.05, 30, step_rule="adam", learning_rate=5e-3)
EPOCHS: Final = 50
LEARNING_RATE: Final = 3e-3
BATCH: Final = 64


@dataclass(frozen=True)
class OwnModel:
    """How a module comes about, and how it is defended.

    name      that is shown
    fit       fit(ratings, *, seed) gives the trained module, a RowModel
    settings  of the fine-tune: k, T, α and Adam's learning rate
    loss      of the fine-tune; None is vicinal_loss(α)
    notes     what a reader of its results has to know
    """

    name: str
    fit: Fit
    settings: VicinalSettings = SETTINGS
    loss: Loss | None = None
    notes: tuple[str, ...] = ()

    def changed(
        self,
        *,
        neighbors: int | None = None,
        steps: int | None = None,
        unrated_weight: float | None = None,
        min_support: int | None = None,
        neighbors_by: str | None = None,
        assume_fakes: float | None = None,
    ) -> VicinalSettings:
        """Its settings with some replaced. Raises InputError."""
        if neighbors_by not in (None, "embedding"):
            raise InputError("neighbors by: a model of your own has its embeddings; leave it out")
        if assume_fakes:
            raise InputError("assumed fakes: a model of your own admits every item; leave it out")
        if min_support not in (None, 1):
            raise InputError("min support: a model of your own has none; leave it out")
        old = self.settings
        return replace(
            old,
            neighbors=old.neighbors if neighbors is None else neighbors,
            steps=old.steps if steps is None else steps,
            unrated_weight=old.unrated_weight if unrated_weight is None else unrated_weight,
        )

    def train(
        self, ratings: RatingMatrix, user_count: int | None = None, *, seed: int
    ) -> GenericVicinal:
        """Fit to some ratings, real users first; the same seed gives the same module.

        Torch's random numbers are seeded for the call, and go on afterwards as if it had not been.
        Raises InputError for a fit that fails or gives no RowModel.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                module = self.fit(ratings, seed=seed)
            except VicinalError:
                raise
            except Exception as error:
                file = getattr(getattr(self.fit, "__code__", None), "co_filename", None)
                raise InputError(f"model {self.name} failed: {failure(error, file)}") from error
        if not isinstance(module, torch.nn.Module):
            raise InputError(
                f"model {self.name}: fit gives a {type(module).__name__}, not a torch.nn.Module"
            )
        return GenericVicinal(ready(module), ratings, user_count, loss=self.loss)


def ready(module: torch.nn.Module) -> torch.nn.Module:
    """A copy to answer with: on the CPU, in eval mode, and no other's to change."""
    return copy.deepcopy(module).cpu().eval()


def own_model(source: Any, *, name: str | None = None) -> OwnModel:
    """From a function `fit(ratings, *, seed)`, a module to start from, or an OwnModel as it is.

    A module is trained by `fitted`, from the parameters that it has now. Raises InputError.
    """
    if isinstance(source, OwnModel):
        return source
    if isinstance(source, torch.nn.Module):
        start = copy.deepcopy(source)
        title = name or type(source).__name__
        note = (
            f"{title} was trained from the parameters it came with: if they have seen these "
            "ratings, so has its accuracy"
        )

        def fit(ratings: RatingMatrix, *, seed: int) -> torch.nn.Module:
            return fitted(start, ratings, seed=seed)

        return OwnModel(title, fit, notes=(note,))
    title = name or str(getattr(source, "__name__", type(source).__name__))
    if not callable(source):
        raise InputError(
            f"own model: a {title} is neither a torch.nn.Module nor a function "
            "fit(ratings, *, seed) that gives one"
        )
    try:
        inspect.signature(source).bind(None, seed=0)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"model {title}: cannot be called as fit(ratings, *, seed): {error}"
        ) from None
    return OwnModel(title, source)


def model_in_file(name: str) -> OwnModel:
    """`PATH.py:FUNCTION`. Raises InputError, as own_model does."""
    return own_model(load_function(name, "model"), name=label(name))


def fitted(
    module: torch.nn.Module,
    ratings: RatingMatrix,
    *,
    seed: int,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
) -> torch.nn.Module:
    """A copy of a module, trained: mean squared error over what is rated, by Adam.

    Every epoch goes over all users once, in batches of 64, in an order drawn from the seed.
    Raises VicinalError when it diverges.
    """
    trained = copy.deepcopy(module).cpu().train()
    optimizer = torch.optim.Adam(trained.parameters(), lr=learning_rate)
    loss_of, generator = vicinal_loss(0.0), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(ratings.user_count, generator=generator).numpy()
        for users in np.split(order, range(BATCH, len(order), BATCH)):
            rows = torch.from_numpy(ratings.rows(users).dense())
            optimizer.zero_grad()
            loss = loss_of(trained(rows), rows)
            if not torch.isfinite(loss):
                raise VicinalError("own model: training diverges")
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return trained.eval()
