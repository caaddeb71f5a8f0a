"""Synthetic ratings: the data set that needs no network.

Shapes: U users, I items, N ratings, d width of taste.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale

SCALE = RatingScale(1, 5, 1)
LEAST_ACTIVITY = 5
# As MovieLens 100K: 106 ratings a user, and no user who rated more than half of the items.
MEAN_ACTIVITY = 106
MOST_ACTIVITY = 0.5
TASTE_WIDTH = 8
# Rows of the U × I choice table made at once: a few tens of MiB, whatever U is.
CHUNK_CELLS = 4_000_000
MAX_CELLS = 2_000_000_000

# Spread of log activity and of log popularity. At MovieLens 100K's size they leave a sixth of the
# items with 1–4 ratings and most items with fewer than 30, much as there.
ACTIVITY_SPREAD = 0.9
POPULARITY_SPREAD = 1.9
# How much stronger than the Gumbel noise of choice (deviation 1.3) taste speaks, and how ratings
# (in stars) depend on taste, on the item, on the user, and on nothing. Users rate what they like,
# so the mean of what is rated is half a star above MEAN_RATING.
TASTE_IN_CHOICE = 1.6
TASTE_IN_RATING = 0.8
ITEM_SPREAD = 0.4
USER_SPREAD = 0.35
NOISE_SPREAD = 0.6
MEAN_RATING = 2.9


def synthetic(
    users: int = 943, items: int = 1682, rating_count: int | None = None, *, seed: int = 0
) -> RatingMatrix:
    """Ratings 1–5 of users who choose items that are popular and that they like.

    Activity and popularity are heavy-tailed, taste has rank d = 8, and what a user thinks of an
    item is taste + item + user + noise. Every user rates at least 5 items (fewer only if there
    are fewer), every item is rated at least once when N ≥ I. Without `rating_count` N is 106 a
    user, less when there are few items. The same arguments give the same ratings.

    Raises InputError for counts that fit no matrix.
    """
    fewest = users * min(LEAST_ACTIVITY, items)
    if rating_count is None:
        rating_count = max(min(MEAN_ACTIVITY * users, users * items // 5), fewest, items)
    if min(users, items) < 1 or users * items > MAX_CELLS:
        raise InputError(
            f"synthetic:{users}x{items}: needs a user, an item and at most {MAX_CELLS:g} pairs"
        )
    if not fewest <= rating_count <= users * items:
        raise InputError(
            f"synthetic:{users}x{items}x{rating_count}: between {fewest} (5 a user) and "
            f"{users * items} ratings are possible"
        )
    if seed < 0:
        raise InputError(f"seed {seed}: must not be negative")
    rng = np.random.default_rng([seed, zlib.crc32(b"synthetic")])
    user_taste = rng.standard_normal((users, TASTE_WIDTH), dtype=np.float32)
    item_taste = rng.standard_normal((items, TASTE_WIDTH), dtype=np.float32)
    user_taste /= np.float32(np.sqrt(TASTE_WIDTH))
    popularity = POPULARITY_SPREAD * rng.standard_normal(items)
    activity = _activity(users, items, rating_count, rng)
    rows, columns = _choose(user_taste, item_taste, popularity, activity, rng)
    columns = _rate_every_item(columns, items, rng)
    liking = np.einsum("nd,nd->n", user_taste[rows], item_taste[columns])
    stars = (
        MEAN_RATING
        + TASTE_IN_RATING * liking
        + (ITEM_SPREAD * rng.standard_normal(items))[columns]
        + (USER_SPREAD * rng.standard_normal(users))[rows]
        + NOISE_SPREAD * rng.standard_normal(len(rows))
    )
    return RatingMatrix.from_triples(
        rows,
        columns,
        SCALE.nearest_levels(stars),
        user_count=users,
        item_count=items,
        scale=SCALE,
    )


def _activity(
    users: int, items: int, rating_count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Ratings of every user [U], log-normal above the least, adding up to N exactly."""
    least = min(LEAST_ACTIVITY, items)
    most = max(int(MOST_ACTIVITY * items), least, -(-rating_count // users))
    weights = np.exp(ACTIVITY_SPREAD * rng.standard_normal(users))
    activity = np.full(users, least, dtype=np.int64)
    while (left := rating_count - int(activity.sum())) > 0:
        # What the cap cuts off one user is handed to the others.
        open_users = np.flatnonzero(activity < most)
        shares = weights[open_users] / weights[open_users].sum()
        activity[open_users] += np.minimum(
            rng.multinomial(left, shares), most - activity[open_users]
        )
    return activity


def _choose(
    user_taste: NDArray[np.float32],
    item_taste: NDArray[np.float32],
    popularity: NDArray[np.float64],
    activity: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(user, item) pairs [N], users ascending: items drawn without replacement by weight.

    The race of exponentials: the n smallest of E_i / w_i, E_i ~ Exp(1), are n draws without
    replacement with weights w_i.
    """
    users, items = len(user_taste), len(item_taste)
    chunk = max(1, CHUNK_CELLS // items)
    base = popularity.astype(np.float32)
    chosen = []
    for start in range(0, users, chunk):
        tastes = user_taste[start : start + chunk]
        times = tastes @ (item_taste.T * np.float32(-TASTE_IN_CHOICE))
        times -= base
        np.exp(times, out=times)
        times *= rng.standard_exponential(times.shape, dtype=np.float32)
        for row, count in zip(times, activity[start : start + chunk], strict=True):
            chosen.append(np.argpartition(row, count - 1)[:count])
    return np.repeat(np.arange(users), activity), np.concatenate(chosen)


def _rate_every_item(
    columns: NDArray[np.int64], items: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Hand every unrated item one rating of an item that keeps another, as far as there are any."""
    unrated = np.flatnonzero(np.bincount(columns, minlength=items) == 0)
    spare = np.ones(len(columns), dtype=bool)
    spare[np.unique(columns, return_index=True)[1]] = False
    givers = rng.permutation(np.flatnonzero(spare))[: len(unrated)]
    result = columns.copy()
    result[givers] = unrated[: len(givers)]
    return result
