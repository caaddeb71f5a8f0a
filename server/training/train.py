"""Training of a base model by masked rating regression, as published.

    L = mean over Ω of (r̂_ui − r_ui)²

Zeros are not ratings. The trainer does not know whether some of its users are fakes.

Shapes: U users, I items, N ratings, d embedding width.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.errors import InputError, VicinalError
from common.models import CLOSED_FORM, IMPORTED, SERVED_AS, Model, model_named
from common.ratings import RatingMatrix
from common.versions.version import Manifest
from server.model_store import Tables, TrainedModel, tables_digest, user_tables
from server.training.calibration import calibrated
from server.training.descent import Descent, Progress
from server.training.fold_in import with_left_out
from server.training.methods import Pca, Robust, Unrated, rounds_of
from server.training.pca import suspects
from server.training.rankers import RANKERS
from server.training.ranking import RANKINGS, Ials, Ranking
from server.training.robust import robust_factors
from server.training.sparse_descent import SparseAdagrad, is_sparse
from server.training.unrated import rows_loss

# What a model's published regime has otherwise than mf's, which is the fields' defaults below.
# Batches of models that read a user's ratings are users.
REGIMES: Final[dict[str, dict[str, Any]]] = {
    "mf": {},
    "nsvd": {"learning_rate": 1.0, "batch": 64},
    "autorec": {
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 1e-5,
        "batch": 64,
        "epochs": 60,
    },
    "cdae": {
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 1e-5,
        "input_dropout": 0.5,
        "batch": 64,
        "epochs": 60,
    },
}

# Where the published regime gives a model that hardly recommends anything that people like, the
# weight decay that sims.selection.weight_decay chooses.
WEIGHT_DECAYS: Final[dict[str, dict[str, float]]] = {
    "filmtrust": {"nsvd": 3e-3, "autorec": 1e-2},
}


class TrainingSettings(BaseModel):
    """How a base model is trained; what is not given is the model's published regime.

    The optimiser decides how much an attack bites: with a large Adagrad step the targets'
    few ratings dominate, as in the paper's tables.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "mf"
    seed: int = Field(default=0, ge=0, lt=2**63)
    width: int = Field(default=64, ge=1, le=4096, description="embedding width d")
    optimizer: Literal["adagrad", "adam"] = "adagrad"
    learning_rate: float = Field(default=10.0, gt=0)
    initial_accumulator: float = Field(default=0.1, ge=0, description="of Adagrad")
    weight_decay: float = Field(default=0.0, ge=0, description="added to gradients, times θ")
    input_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of a user's ratings hidden from the encoder"
    )
    batch: int = Field(default=4096, ge=1, description="ratings a step; users, for encoders")
    epochs: int = Field(default=25, ge=1)
    robust: Robust | None = Field(default=None, description="robust training; None is plain")
    ranking: Ranking | None = Field(
        default=None, description="of ials, bpr and lightgcn, which take width and seed from here"
    )

    @model_validator(mode="before")
    @classmethod
    def _regime(cls, values: Any) -> Any:
        """Fill in what the model's regime has otherwise than the fields' defaults."""
        if not isinstance(values, dict):
            return values
        name = values.get("model", "mf")
        name = name if isinstance(name, str) else ""
        ranking = {"ranking": RANKINGS[name]()} if name in RANKINGS else {}
        return {**REGIMES.get(name, {}), **ranking, **values}

    @model_validator(mode="after")
    def _fits(self) -> "TrainingSettings":
        method = None if self.ranking is None else self.ranking.method
        if method != (self.model if self.model in RANKINGS else None):
            raise ValueError(f"ranking: {method} is no training of {self.model}")
        return self

    @classmethod
    def on(
        cls, dataset: str, *, model: str, seed: int = 0, robust: Robust | None = None
    ) -> "TrainingSettings":
        """The model's regime with the weight decay that suits the data set of that name."""
        regime = cls(model=model, seed=seed, robust=robust)
        decays = WEIGHT_DECAYS.get(dataset, {})
        return regime.model_copy(update={"weight_decay": decays.get(model, regime.weight_decay)})

    @property
    def unrated_weight(self) -> float:
        """α of what is not rated; 0 in every other training."""
        return self.robust.weight if isinstance(self.robust, Unrated) else 0.0

    def digest(self, ratings: RatingMatrix, start: "Start | None" = None) -> str:
        """SHA-256 of all that decides the result of training."""
        # Of a model without one it says nothing, so that a digest outlives such models.
        unused = {"ranking"} if self.ranking is None else set[str]()
        told = self.model_dump_json(exclude=unused)
        text = told + ratings.digest() + ("" if start is None else start.version)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Start:
    """Where a warm-started training begins, instead of fresh parameters.

    version     name of the model version that the parameters are of
    parameters  shared tables, and the rows of user tables that are known; further users start
                fresh
    """

    version: str
    parameters: Tables


def train(
    ratings: RatingMatrix,
    settings: TrainingSettings,
    *,
    start: Start | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TrainedModel:
    """Train on all ratings given; the same arguments give the same parameters.

    `progress` is called with (epochs done, epochs), from 0 on. Raises InputError for an unknown
    model, for one that cannot be trained robustly or be started warm, VicinalError when the
    parameters do not stay finite.
    """
    model = model_named(SERVED_AS.get(settings.model, settings.model))
    # A sum's order depends on the number of threads, and a version's name on the sum.
    torch.set_num_threads(1)
    require_trainable(settings.model, settings.robust)
    if not model.tables:
        return _trained(ratings, settings, {}, start)
    if start is not None and (settings.ranking or settings.robust):
        what = settings.robust.method if settings.robust else settings.model
        raise InputError(f"{what} has no warm start: train it anew")
    if progress is not None:
        progress(0, rounds_of(settings.robust or settings.ranking) or settings.epochs)
    if isinstance(settings.robust, Pca):
        return _without_suspects(ratings, settings, settings.robust, progress)
    ranking = settings.robust if isinstance(settings.robust, Ials) else settings.ranking
    if ranking is not None:
        return _trained(ratings, settings, _ranked(ratings, settings, ranking, progress))
    if settings.robust is not None and model.inputs == "none":
        factors = robust_factors(ratings, settings.robust, _descent(settings), progress)
        return _trained(ratings, settings, factors)
    generator = torch.Generator().manual_seed(settings.seed)
    user_shapes = model.user_shapes(ratings.user_count, settings.width)
    shared_shapes = model.shared_shapes(ratings.item_count, settings.width)
    parameters = {
        name: _initial(shape, generator) for name, shape in {**user_shapes, **shared_shapes}.items()
    }
    if start is not None:
        _copy_start(parameters, start.parameters)
    rows = _row_descent(ratings, settings, parameters)
    optimizer = _optimizer(list(parameters.values()), settings)
    loss_of = _pair_loss if model.inputs == "none" else _row_loss
    examples = len(ratings) if model.inputs == "none" else ratings.user_count
    for epoch in range(settings.epochs):
        order = torch.randperm(examples, generator=generator)
        if rows is not None:
            rows.epoch(order)
        for batch in torch.split(order, settings.batch) if rows is None else ():
            loss = loss_of(model, parameters, ratings, batch, settings, generator)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if progress is not None:
            progress(epoch + 1, settings.epochs)
    return _trained(ratings, settings, parameters, start)


def _row_descent(
    ratings: RatingMatrix, settings: TrainingSettings, parameters: "Tensors"
) -> SparseAdagrad | None:
    """Steps on a batch's rows alone, where others are many and would not move; None elsewhere."""
    rows = ratings.user_count + ratings.item_count
    kept = settings.optimizer == "adagrad" and settings.weight_decay == 0
    if settings.model != "mf" or not kept or not is_sparse(rows, settings.batch):
        return None
    users, items = (
        parameters[name].detach().numpy() for name in ("user_embedding", "item_embedding")
    )
    return SparseAdagrad(
        ratings,
        users,
        items,
        rate=settings.learning_rate,
        initial_accumulator=settings.initial_accumulator,
        batch=settings.batch,
    )


def _without_suspects(
    ratings: RatingMatrix,
    settings: TrainingSettings,
    method: Pca,
    progress: Callable[[int, int], None] | None,
) -> TrainedModel:
    """The model of everybody who is not suspected; the suspects' own parameters are folded in."""
    left_out = suspects(ratings, method.share, method.components)
    kept = np.setdiff1d(np.arange(ratings.user_count), left_out)
    then = settings.model_copy(update={"robust": method.then})
    trained = train(ratings.rows(kept), then, progress=progress)
    own = with_left_out(
        model_named(SERVED_AS.get(settings.model, settings.model)),
        trained.shared_parameters,
        trained.user_parameters,
        ratings,
        left_out,
        unrated_weight=then.unrated_weight,
    )
    manifest = replace(
        trained.manifest,
        users=ratings.user_count,
        training_digest=settings.digest(ratings),
        user_digest=tables_digest(user_tables(own, left_out)),
    )
    return TrainedModel(manifest, trained.shared_parameters, own, left_out)


def require_trainable(model: str, robust: Robust | None) -> None:
    """Raises InputError for a robust training that the model does not have."""
    if robust is not None and model.startswith(IMPORTED):
        raise InputError(f"{robust.method} trains, and {model} is trained: use --defense rvd")
    if robust is not None and model in CLOSED_FORM:
        raise InputError(f"{model} has nothing to train robustly: use --defense rvd or none")
    if isinstance(robust, Pca):
        robust = robust.then
    if robust is not None and model in SERVED_AS:
        raise InputError(f"{robust.method} trains mf only, not {model}: use --defense rvd")
    if robust is not None and model != "mf" and not isinstance(robust, Unrated):
        raise InputError(
            f"{robust.method} trains mf only, not {model}: use --defense unrated or rvd"
        )


def _ranked(
    ratings: RatingMatrix,
    settings: TrainingSettings,
    ranking: Ranking,
    progress: Progress | None,
) -> dict[str, torch.Tensor]:
    """The parameters of mf, by name, from a training that orders items. Raises InputError."""
    train_ranking = RANKERS[type(ranking)]
    factors = train_ranking(
        ratings, ranking, width=settings.width, seed=settings.seed, progress=progress
    )
    users, items = calibrated(factors.users.numpy(), factors.items.numpy(), ratings)
    return {"user_embedding": torch.from_numpy(users), "item_embedding": torch.from_numpy(items)}


def _descent(settings: TrainingSettings) -> Descent:
    return Descent(
        seed=settings.seed,
        width=settings.width,
        learning_rate=settings.learning_rate,
        initial_accumulator=settings.initial_accumulator,
        batch=settings.batch,
        epochs=settings.epochs,
    )


def _trained(
    ratings: RatingMatrix,
    settings: TrainingSettings,
    parameters: Mapping[str, torch.Tensor],
    start: Start | None = None,
) -> TrainedModel:
    """Parameters with the manifest that says what they are. Raises VicinalError."""
    tables = {name: table.detach().numpy() for name, table in parameters.items()}
    if not all(np.isfinite(table).all() for table in tables.values()):
        raise VicinalError(
            f"training of {settings.model} diverged: "
            f"lower the learning rate ({settings.learning_rate:g})"
        )
    served = SERVED_AS.get(settings.model, settings.model)
    user_names = model_named(served).user_shapes(1, 1)
    own: Tables = {name: table for name, table in tables.items() if name in user_names}
    shared: Tables = {name: table for name, table in tables.items() if name not in user_names}
    scale = ratings.scale
    manifest = Manifest(
        model=served,
        users=ratings.user_count,
        items=ratings.item_count,
        # rmf's width follows from its rank.
        width=shared["item_embedding"].shape[1] if shared else 1,
        minimum=float(scale.minimum),
        maximum=float(scale.maximum),
        step=float(scale.step),
        training_digest=settings.digest(ratings, start),
        user_digest=tables_digest(own),
    )
    return TrainedModel(manifest, shared, own)


Tensors = dict[str, torch.nn.Parameter]


def _pair_loss(
    model: Model,
    parameters: Tensors,
    ratings: RatingMatrix,
    batch: torch.Tensor,
    settings: TrainingSettings,
    generator: torch.Generator,
) -> torch.Tensor:
    """Of some ratings, by their place in Ω; nothing is read that could be dropped."""
    places = batch.numpy()
    users, items = torch.from_numpy(ratings.users[places]), ratings.items[places].astype(np.int64)
    embedding = model.encode(_of_users(model, parameters, users), None)
    predicted = model.decode_pairs(parameters, embedding, torch.from_numpy(items))
    loss: torch.Tensor = (predicted - torch.from_numpy(ratings.ratings[places])).square().mean()
    return loss


def _row_loss(
    model: Model,
    parameters: Tensors,
    ratings: RatingMatrix,
    batch: torch.Tensor,
    settings: TrainingSettings,
    generator: torch.Generator,
) -> torch.Tensor:
    """Of all ratings of some users, and of what they did not rate where it has a weight."""
    targets = torch.from_numpy(ratings.rows(batch.numpy()).dense())
    seen, dropout = targets, settings.input_dropout
    if dropout > 0:
        kept = torch.rand(targets.shape, generator=generator) >= dropout
        seen = targets * kept / (1 - dropout)
    embedding = model.encode(_of_users(model, parameters, batch), seen)
    return rows_loss(model.decode(parameters, embedding), targets, settings.unrated_weight)


def _of_users(model: Model, parameters: Tensors, users: torch.Tensor) -> dict[str, torch.Tensor]:
    own = {name: parameters[name][users] for name in model.user_shapes(1, 1)}
    return {**parameters, **own}


def _optimizer(
    parameters: list[torch.nn.Parameter], settings: TrainingSettings
) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.Adagrad(
        parameters,
        lr=rate,
        weight_decay=decay,
        initial_accumulator_value=settings.initial_accumulator,
    )


def _copy_start(parameters: Tensors, known: Tables) -> None:
    """Put known values over fresh ones, row by row. Raises InputError for another model's."""
    for name, table in parameters.items():
        rows = known.get(name)
        if rows is None or rows.shape[1:] != table.shape[1:] or len(rows) > len(table):
            raise InputError(f"warm start: {name} is of another model or of other users")
        with torch.no_grad():
            table[: len(rows)] = torch.from_numpy(np.array(rows))


def _initial(shape: tuple[int, ...], generator: torch.Generator) -> torch.nn.Parameter:
    """Xavier's uniform for a table, zeros for a bias."""
    table = torch.zeros(shape)
    if len(shape) > 1:
        torch.nn.init.xavier_uniform_(table, generator=generator)
    return torch.nn.Parameter(table)
