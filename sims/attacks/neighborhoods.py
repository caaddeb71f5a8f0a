"""Who is near whom, as an attacker works it out: in the spaces that a defense may use.

`embedding` is the space of a surrogate model's user embeddings; `ratings` is that of the rows of
the rating matrix, where the nearness of two users is the cosine of who rated what,

    n_uv / √(n_u n_v),

n_uv items that both rated. Nobody else's ratings enter it.

Shapes: U users, I items, k neighbors.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from server.baselines.incidence import incidence
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings, train
from sims.attacks.budget import Budget
from sims.attacks.options import check, choose

SPACES: Final = ("embedding", "ratings")
# Users whose similarities to all others are held at once: some tens of MiB for 10⁴ users.
USERS_AT_ONCE: Final = 512


def nearest_by_ratings(
    ratings: RatingMatrix, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The n = `count` users nearest to each, itself not among them, and their cosines, [U, n].

    Most similar first; of equally similar ones the lower index. n is at most U − 1.
    """
    users = ratings.user_count
    table = incidence(ratings)
    across = table.T.tocsr()
    lengths = np.sqrt(np.maximum(np.diff(ratings.indptr), 1))
    nearest = np.empty((users, count), dtype=np.int64)
    cosines = np.empty((users, count))
    for first in range(0, users, USERS_AT_ONCE):
        some = np.arange(first, min(first + USERS_AT_ONCE, users))
        shared = (table[some] @ across).toarray()
        alike = shared / lengths[some, None] / lengths
        alike[np.arange(len(some)), some] = -1
        order = np.argsort(-alike, axis=1, kind="stable")[:, :count]
        nearest[some] = order
        cosines[some] = np.take_along_axis(alike, order, axis=1)
    return nearest, cosines


def nearest_others(
    ratings: RatingMatrix, count: int, *, space: str, model: str, seed: int
) -> NDArray[np.int64]:
    """The n = `count` users nearest to each in a space, itself not among them, [U, n].

    model, seed  of the surrogate, where the space is that of its embeddings
    """
    if space == "ratings":
        return nearest_by_ratings(ratings, count)[0]
    users = ratings.user_count
    trained = train(ratings, TrainingSettings(model=model, seed=seed))
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        recommender = Recommender(store.save(trained), ratings, users)
        return recommender.nearest(np.arange(users), count + 1)[:, 1:]


def times_listed(
    ratings: RatingMatrix, k: int, *, space: str = "embedding", model: str = "mf", seed: int = 0
) -> NDArray[np.int64]:
    """How many others list each user among their k nearest, themselves included, [U]."""
    others = nearest_others(ratings, k - 1, space=space, model=model, seed=seed)
    return np.bincount(others.ravel(), minlength=ratings.user_count)


def hubness(
    ratings: RatingMatrix,
    budget: Budget,
    *,
    k: int,
    hubs: int,
    space: str,
    model: str,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """`times_listed` for an attack that clones `hubs` users, with its options checked, [U].

    Of fewer users than k, all are near. Raises InputError, also for more hubs than fakes.
    """
    check("k", k, 2)
    check("hubs", hubs, 0)
    choose("space", space, SPACES)
    if hubs > budget.fakes:
        raise InputError(f"attack option hubs={hubs}: there are only {budget.fakes} fakes")
    seed = int(rng.integers(2**31))
    return times_listed(ratings, min(k, ratings.user_count), space=space, model=model, seed=seed)
