"""Leave-one-out splits: one rating a user is taken away, to be found again by the recommender.

Shapes: U users, I items, N observed ratings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.names import unknown
from common.ratings import RatingMatrix
from server.data.datasets import Dataset
from server.data.held_out import HeldOut
from sims.numbers import stream

GIVEN = "given"
KINDS = ("published", GIVEN, "random", "latest")
NO_SPLIT = "none"


@dataclass(frozen=True)
class Split:
    """Ratings to train on, and what was held out of them; `kind` is of `KINDS`, or `NO_SPLIT`."""

    train: RatingMatrix
    held_out: HeldOut
    kind: str


def leave_one_out(dataset: Dataset, *, kind: str | None = None, seed: int = 0) -> Split:
    """Hold one rating of every user out; a user with a single rating keeps it.

    `published` is the split that the data set's files carry, `given` that one or a test file's,
    `random` draws uniformly from the seed, `latest` takes the newest rating (among equally new ones
    the seed decides). None means what the files carry where there is such a split, else random.
    Raises InputError for an unknown kind, and for one that the data set has no files or timestamps
    for.
    """
    chosen = kind or ("random" if dataset.held_out is None else GIVEN)
    if chosen not in KINDS:
        raise unknown("split", chosen, KINDS)
    ratings = dataset.ratings
    if chosen in ("published", GIVEN):
        if dataset.held_out is None:
            raise InputError(
                f"{dataset.name} has no published split here; use random or latest, or give the "
                "ratings to hold out with --test FILE"
            )
        kind = dataset.held_out_kind
        return Split(without(ratings, dataset.held_out), dataset.held_out, kind)
    rng = stream(seed, "leave-one-out")
    if chosen == "random":
        return _hold_out(ratings, _random_positions(ratings, rng), chosen)
    if dataset.timestamps is None:
        raise InputError(f"{dataset.name} has no timestamps, so no latest split; use random")
    order = np.lexsort((rng.random(len(ratings)), dataset.timestamps, ratings.users))
    last = order[ratings.indptr[1:][_divisible(ratings)] - 1]
    return _hold_out(ratings, last, chosen)


def hold_out_one(ratings: RatingMatrix, *, seed: int) -> Split:
    """Draw one validation rating a user from training ratings, as `random` does.

    Its stream is its own: the same seed as the test split's draws other positions.
    """
    positions = _random_positions(ratings, stream(seed, "validation"))
    return _hold_out(ratings, positions, "random")


def nothing_held_out(ratings: RatingMatrix) -> Split:
    """All ratings, to serve them as they are."""
    users = ratings.user_count
    held_out = HeldOut(np.full(users, -1, dtype=np.int32), np.zeros(users, dtype=np.uint8))
    return Split(ratings, held_out, NO_SPLIT)


def without(ratings: RatingMatrix, held_out: HeldOut) -> RatingMatrix:
    """The ratings but for the held-out ones; ids are kept.

    Raises InputError when a held-out pair is not among the ratings.
    """
    if len(held_out.items) != ratings.user_count:
        raise InputError(
            f"held-out items of {len(held_out.items)} users do not fit {ratings.user_count}"
        )
    kept = ratings.items != np.repeat(held_out.items, np.diff(ratings.indptr))
    indptr = np.concatenate([[0], np.cumsum(kept)])[ratings.indptr]
    if len(ratings) - indptr[-1] != len(held_out.users):
        rated = np.diff(indptr) < np.diff(ratings.indptr)
        user = held_out.users[~rated[held_out.users]][0]
        raise InputError(f"user {user} has not rated the held-out item {held_out.items[user]}")
    return RatingMatrix(
        indptr,
        ratings.items[kept],
        ratings.levels[kept],
        ratings.item_count,
        ratings.scale,
        ratings.user_ids,
        ratings.item_ids,
    )


def _divisible(ratings: RatingMatrix) -> NDArray[np.bool_]:
    """Users who keep a rating when one is taken, [U]."""
    return np.diff(ratings.indptr) >= 2


def _random_positions(ratings: RatingMatrix, rng: np.random.Generator) -> NDArray[np.int64]:
    """One position among the N ratings for every user who can spare one, ascending."""
    users = _divisible(ratings)
    return ratings.indptr[:-1][users] + rng.integers(0, np.diff(ratings.indptr)[users])


def _hold_out(ratings: RatingMatrix, positions: NDArray[np.int64], kind: str) -> Split:
    """One position for every user who can spare one."""
    items = np.full(ratings.user_count, -1, dtype=np.int32)
    levels = np.zeros(ratings.user_count, dtype=np.uint8)
    users = np.flatnonzero(_divisible(ratings))
    items[users], levels[users] = ratings.items[positions], ratings.levels[positions]
    held_out = HeldOut(items, levels)
    return Split(without(ratings, held_out), held_out, kind)
