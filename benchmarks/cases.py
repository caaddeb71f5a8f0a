"""The shapes on which the kernel is timed, with synthetic ratings: nothing is downloaded.

Models are trained for one epoch of their published regime, which gives tables of a trained
model's scale and answers that differ from user to user; how well they recommend is not asked.

Shapes: U users, I items, N ratings, d = 64 embedding width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.models import MODELS
from common.ranking import top_items
from common.ratings import RatingMatrix
from common.versions.version import decode_version, encode_version, version_digest
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings, preset
from common.wire import offload_pb2 as wire
from common.wire.messages import neighborhood_to_wire, own_to_wire
from common.wire.sealing import KEY_BYTES, OwnRow
from server.data.synthetic import synthetic
from server.model_store import StoredModel, TrainedModel
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings, train
from server.trust.receipts import RECEIPT_BYTES
from sims.grid import paper_tables

WIDTH: Final = 64
LIST_LENGTH: Final = 50


@dataclass(frozen=True)
class Shape:
    """The size of a data set of the paper; `data` is its name there."""

    name: str
    data: str
    users: int
    items: int
    ratings: int


SHAPES: Final = (
    Shape("ML-100K", "ml-100k", 943, 1682, 100_000),
    Shape("ML-1M", "ml-1m", 6040, 3706, 1_000_209),
    Shape("Yelp", "yelp", 14_575, 25_602, 555_374),
)
MODEL_NAMES: Final = ("mf", "nsvd", "autorec", "cdae")
assert set(MODEL_NAMES) == set(MODELS)


def shape_named(name: str) -> Shape:
    return {shape.name: shape for shape in SHAPES}[name]


@cache
def ratings_of(shape: Shape) -> RatingMatrix:
    """Synthetic ratings of a shape, seed 0."""
    return synthetic(shape.users, shape.items, shape.ratings, seed=0)


@cache
def recommender(shape: Shape, model: str) -> Recommender:
    """A model of a shape, after one epoch, seed 0."""
    return trained_on(ratings_of(shape), model)


def trained_on(ratings: RatingMatrix, model: str) -> Recommender:
    """A model of ratings, after one epoch, seed 0."""
    return serve(train(ratings, TrainingSettings(model=model, width=WIDTH, epochs=1)), ratings)


def serve(trained: TrainedModel, ratings: RatingMatrix) -> Recommender:
    """A recommender of a model that is in no store, over the bytes that a device would get."""
    data = encode_version(trained.manifest, trained.shared_parameters)
    version = decode_version(data, expected_digest=version_digest(data))
    stored = StoredModel(version, dict(trained.user_parameters), Path("nowhere"))
    return Recommender(stored, ratings, ratings.user_count)


def settings_for(shape: Shape, model: str, name: str) -> VicinalSettings:
    """A preset; `paper` has the k of the paper's Table 2 for that data set, and m = 1."""
    if name != "paper":
        return preset(name, model=model)
    return preset(name, model=model, neighbors=paper_tables.k(shape.data, model), min_support=1)


def plain_answer(server: Recommender, user: int) -> NDArray[np.int64]:
    """The undefended top 50, without any search for neighbors."""
    own = {name: rows[[user]] for name, rows in server.stored.user_parameters.items()}
    alone = Neighborhood(server.ratings.rows([user]), own)
    scores = server.version.served.plain_scores(alone)
    return top_items(scores, server.ratings.items_of(user), LIST_LENGTH)


def some_users(count: int, users: int) -> NDArray[np.int64]:
    """Distinct users of so many, the same ones every time, [count]."""
    return np.random.default_rng(1).permutation(users)[:count]


def shipped(
    neighborhood: Neighborhood,
    hidden: NDArray[np.bool_] | None = None,
    own_rows: Mapping[str, bytes] | None = None,
) -> wire.OffloadPackage:
    """As a server packs it, with the rows of a slim package that are sealed."""
    message = neighborhood_to_wire(neighborhood, hidden)
    sealed = own_to_wire(neighborhood, hidden)
    sealed.rows.update(own_rows or {})
    own = OwnRow(neighborhood.ratings.rows([0]), bytes(KEY_BYTES))
    message.sealed = own.seal(sealed, "0" * 64)
    receipt = bytes(RECEIPT_BYTES)
    return wire.OffloadPackage(version="0" * 64, neighborhood=message, receipt=receipt)
