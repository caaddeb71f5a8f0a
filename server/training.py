"""Training of a base model by masked rating regression, as published.

    L = mean over Ω of (r̂_ui − r_ui)²

Zeros are not ratings. The trainer does not know whether some of its users are fakes.

Shapes: U users, I items, N ratings, d embedding width.
"""

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from common.errors import InputError, VicinalError
from common.model_version import Manifest
from common.models import model_named
from common.ratings import RatingMatrix
from server.model_store import Tables, TrainedModel, tables_digest
from server.robust import Robust, robust_factors
from server.robust.descent import Descent


class TrainingSettings(BaseModel):
    """How a base model is trained; the defaults give the published regime for mf.

    The optimiser decides how much an attack bites: with a large Adagrad step the targets'
    few ratings dominate, as in the paper's tables.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "mf"
    seed: int = Field(default=0, ge=0, lt=2**63)
    width: int = Field(default=64, ge=1, le=4096, description="embedding width d")
    learning_rate: float = Field(default=10.0, gt=0, description="of Adagrad")
    initial_accumulator: float = Field(default=0.1, ge=0, description="of Adagrad")
    batch: int = Field(default=4096, ge=1, description="ratings per step")
    epochs: int = Field(default=25, ge=1)
    robust: Robust | None = Field(default=None, description="robust training; None is plain")

    def digest(self, ratings: RatingMatrix) -> str:
        """SHA-256 of all that decides the result of training."""
        text = self.model_dump_json() + ratings.digest()
        return hashlib.sha256(text.encode()).hexdigest()


def train(
    ratings: RatingMatrix,
    settings: TrainingSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> TrainedModel:
    """Train on all ratings given; the same ratings and settings give the same parameters.

    `progress` is called with (epochs done, epochs). Raises InputError for an unknown model and
    for one that cannot be trained robustly, VicinalError when the parameters do not stay finite.
    """
    model = model_named(settings.model)
    # A sum's order depends on the number of threads, and a version's name on the sum.
    torch.set_num_threads(1)
    if settings.robust is not None:
        factors = robust_factors(ratings, settings.robust, _descent(settings), progress)
        return _trained(ratings, settings, factors)
    generator = torch.Generator().manual_seed(settings.seed)
    user_shapes = model.user_shapes(ratings.user_count, settings.width)
    shared_shapes = model.shared_shapes(ratings.item_count, settings.width)
    parameters = {
        name: _xavier(shape, generator) for name, shape in {**user_shapes, **shared_shapes}.items()
    }
    optimizer = torch.optim.Adagrad(
        parameters.values(),
        lr=settings.learning_rate,
        initial_accumulator_value=settings.initial_accumulator,
    )
    users = torch.from_numpy(ratings.users)
    items = torch.from_numpy(ratings.items.astype(np.int64))
    targets = torch.from_numpy(ratings.ratings.copy())
    for epoch in range(settings.epochs):
        order = torch.randperm(len(targets), generator=generator)
        for batch in torch.split(order, settings.batch):
            rows = {name: parameters[name][users[batch]] for name in user_shapes}
            embedding = model.encode({**parameters, **rows}, None)
            predicted = model.decode_pairs(parameters, embedding, items[batch])
            loss = (predicted - targets[batch]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if progress is not None:
            progress(epoch + 1, settings.epochs)
    return _trained(ratings, settings, parameters)


def require_trainable(model: str, robust: Robust | None) -> None:
    """Raises InputError for a robust training that the model does not have."""
    if robust is not None and model != "mf":
        raise InputError(f"{robust.method} trains mf only, not {model}: use --defense rvd")


def _descent(settings: TrainingSettings) -> Descent:
    require_trainable(settings.model, settings.robust)
    return Descent(
        seed=settings.seed,
        width=settings.width,
        learning_rate=settings.learning_rate,
        initial_accumulator=settings.initial_accumulator,
        batch=settings.batch,
        epochs=settings.epochs,
    )


def _trained(
    ratings: RatingMatrix, settings: TrainingSettings, parameters: Mapping[str, torch.Tensor]
) -> TrainedModel:
    """Parameters with the manifest that says what they are. Raises VicinalError."""
    tables = {name: table.detach().numpy() for name, table in parameters.items()}
    if not all(np.isfinite(table).all() for table in tables.values()):
        raise VicinalError(
            f"training of {settings.model} diverged: "
            f"lower the learning rate ({settings.learning_rate:g})"
        )
    user_names = model_named(settings.model).user_shapes(1, 1)
    own: Tables = {name: table for name, table in tables.items() if name in user_names}
    shared: Tables = {name: table for name, table in tables.items() if name not in user_names}
    scale = ratings.scale
    manifest = Manifest(
        model=settings.model,
        users=ratings.user_count,
        items=ratings.item_count,
        # A robust training is of mf, and rmf's width follows from its rank.
        width=own["user_embedding"].shape[1] if settings.robust else settings.width,
        minimum=float(scale.minimum),
        maximum=float(scale.maximum),
        step=float(scale.step),
        training_digest=settings.digest(ratings),
        user_digest=tables_digest(own),
    )
    return TrainedModel(manifest, shared, own)


def _xavier(shape: tuple[int, ...], generator: torch.Generator) -> torch.nn.Parameter:
    table = torch.empty(shape)
    torch.nn.init.xavier_uniform_(table, generator=generator)
    return torch.nn.Parameter(table)
