"""The adaptive attack: the attacker knows the defense and puts its fakes inside neighborhoods.

RVD fine-tunes on a user's k nearest neighbors. So the attacker trains a surrogate as the server
does, on the real ratings, guesses k, and looks for hubs: users whom most others list among their
k nearest. Each fake clones a random part of a hub's profile, with its real ratings, so that
training puts it near the hub, and adds the targets. Many hubs reach many neighborhoods with one
fake each; few hubs (`hubs=1`) put many fakes into each neighborhood that they do reach.

Shapes: U real users, k neighbors.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings, train
from sims.attacks.budget import Budget, assemble
from sims.attacks.options import check


def vicinity_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    k: int = 40,
    hubs: int = 0,
    model: str = "mf",
) -> RatingMatrix:
    """Clones of hubs: the users whom most others have as a neighbor.

    k      neighbors that the attacker believes the defense to use, the user itself included;
           of fewer users, all
    hubs   how many users are cloned, in turn; 0 is one for each fake
    model  of the surrogate, as in --model

    Raises InputError for more hubs than fakes.
    """
    check("k", k, 2)
    check("hubs", hubs, 0)
    if hubs > budget.fakes:
        raise InputError(f"attack option hubs={hubs}: there are only {budget.fakes} fakes")
    seed = int(rng.integers(2**31))
    listed = times_listed(ratings, min(k, ratings.user_count), model=model, seed=seed)
    # Among users who are listed equally often, one with more ratings has more to clone.
    busy = np.diff(ratings.indptr)
    best = np.lexsort((-busy, -listed))[: hubs or budget.fakes]
    return assemble(ratings, targets, _clones(ratings, targets, budget, best, rng))


def times_listed(
    ratings: RatingMatrix, k: int, *, model: str = "mf", seed: int = 0
) -> NDArray[np.int64]:
    """How many others list each user among their k nearest, on a surrogate, [U]."""
    users = ratings.user_count
    trained = train(ratings, TrainingSettings(model=model, seed=seed))
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        nearest = Recommender(store.save(trained), ratings, users).nearest(np.arange(users), k)
    return np.bincount(nearest[:, 1:].ravel(), minlength=users)


def _clones(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    hubs: NDArray[np.int64],
    rng: np.random.Generator,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    for fake in range(budget.fakes):
        hub = hubs[fake % len(hubs)]
        row = np.arange(ratings.indptr[hub], ratings.indptr[hub + 1])
        row = row[~np.isin(ratings.items[row], targets)]
        room = budget.profile_size - len(targets)
        if len(row) > room:
            row = rng.choice(row, room, replace=False)
        yield ratings.items[row].astype(np.int64), ratings.scale.values[ratings.levels[row]]
