"""Synthetic ratings: the data set that needs no network.

Shapes: U users, I items, N ratings, d width of taste.
"""

import zlib
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.memory import available_memory
from common.ratings import RatingMatrix, RatingScale

SCALE = RatingScale(1, 5, 1)
# What ratings and rows take while they are made.
BYTES_A_RATING = 16
BYTES_A_ROW = 512
LEAST_ACTIVITY = 5
# As MovieLens 100K: 106 ratings a user, and no user who rated more than half of the items.
MEAN_ACTIVITY = 106
MOST_ACTIVITY = 0.5
TASTE_WIDTH = 8
# Rows of the U × I choice table made at once: a few tens of MiB, whatever U is.
CHUNK_CELLS = 4_000_000
# Above so many pairs of a user and an item, users are of some kinds, and choose by those.
MAX_CELLS = 2_000_000_000
KINDS = 64
# The share of a user's taste that is the kind's.
KIND_SHARE = 0.8
# Of rows that are held as 32-bit integers.
MAX_COUNT = 2**31 - 1
# Ratings whose stars are drawn at once.
CHUNK_RATINGS = 1 << 20

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
    user, less when there are few items. The same arguments give the same ratings. Where a table of
    all pairs would be large, users are of 64 kinds who choose alike, and time and memory grow with
    N.

    Raises InputError for counts that fit no matrix.
    """
    fewest = users * min(LEAST_ACTIVITY, items)
    if rating_count is None:
        rating_count = max(min(MEAN_ACTIVITY * users, users * items // 5), fewest, items)
    if min(users, items) < 1 or max(users, items) > MAX_COUNT:
        raise InputError(
            f"synthetic:{users}x{items}: needs a user and an item, and at most {MAX_COUNT} of each"
        )
    require_room(users, items, rating_count)
    if not fewest <= rating_count <= users * items:
        raise InputError(
            f"synthetic:{users}x{items}x{rating_count}: between {fewest} (5 a user) and "
            f"{users * items} ratings are possible"
        )
    if seed < 0:
        raise InputError(f"seed {seed}: must not be negative")
    if users * items > MAX_CELLS:
        return _of_kinds(users, items, rating_count, seed)
    rng = np.random.default_rng([seed, zlib.crc32(b"synthetic")])
    user_taste = rng.standard_normal((users, TASTE_WIDTH), dtype=np.float32)
    item_taste = rng.standard_normal((items, TASTE_WIDTH), dtype=np.float32)
    user_taste /= np.float32(np.sqrt(TASTE_WIDTH))
    popularity = POPULARITY_SPREAD * rng.standard_normal(items)
    activity = _activity(users, items, rating_count, rng)
    columns = _choose(user_taste, item_taste, popularity, activity, rng)
    _rate_every_item(columns, items, rng)
    indptr = np.concatenate([[0], np.cumsum(activity)])
    of_items = ITEM_SPREAD * rng.standard_normal(items)
    of_users = USER_SPREAD * rng.standard_normal(users)
    levels = np.empty(rating_count, dtype=np.uint8)
    for first, last in _blocks(indptr):
        start, end = indptr[first], indptr[last]
        some = columns[start:end]
        rows = np.repeat(np.arange(first, last), activity[first:last])
        liking = np.einsum("nd,nd->n", user_taste[rows], item_taste[some])
        stars = (
            MEAN_RATING
            + TASTE_IN_RATING * liking
            + of_items[some]
            + of_users[rows]
            + NOISE_SPREAD * rng.standard_normal(len(some))
        )
        order = np.lexsort((some, rows))
        columns[start:end] = some[order]
        levels[start:end] = SCALE.nearest_levels(stars)[order]
    return RatingMatrix(indptr, columns, levels, items, SCALE)


def _blocks(indptr: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last user of parts of about CHUNK_RATINGS ratings, in whole rows."""
    targets = np.arange(CHUNK_RATINGS, indptr[-1], CHUNK_RATINGS)
    edges = np.unique([0, *np.searchsorted(indptr, targets), len(indptr) - 1])
    return list(pairwise(edges.tolist()))


def require_room(users: int, items: int, rating_count: int) -> None:
    """Raises InputError for ratings that the machine has no memory for."""
    needed, free = BYTES_A_RATING * rating_count + BYTES_A_ROW * (users + items), available_memory()
    if needed > free:
        raise InputError(
            f"synthetic:{users}x{items}x{rating_count}: needs {needed >> 20} MiB, and "
            f"{free >> 20} MiB are free"
        )


def _of_kinds(users: int, items: int, rating_count: int, seed: int) -> RatingMatrix:
    """Ratings of users who choose as their kind does, and who rate by a taste of their own."""
    # Loops are compiled only where they are needed.
    from server.data import crowds  # noqa: PLC0415

    rng = np.random.default_rng([seed, zlib.crc32(b"synthetic of kinds")])
    scale = np.float32(1 / np.sqrt(TASTE_WIDTH))
    tastes = scale * rng.standard_normal((KINDS, TASTE_WIDTH), dtype=np.float32)
    item_taste = rng.standard_normal((items, TASTE_WIDTH), dtype=np.float32)
    kinds = rng.integers(KINDS, size=users)
    user_taste = (
        np.float32(np.sqrt(1 - KIND_SHARE))
        * scale
        * rng.standard_normal((users, TASTE_WIDTH), dtype=np.float32)
    )
    user_taste += np.float32(np.sqrt(KIND_SHARE)) * tastes[kinds]
    popularity = POPULARITY_SPREAD * rng.standard_normal(items, dtype=np.float32)
    activity = _activity(users, items, rating_count, rng)
    weights = np.exp(popularity + TASTE_IN_CHOICE * (tastes @ item_taste.T))
    columns = crowds.choose(weights, kinds, activity, rng)
    _hand_out(columns, items, rng)
    indptr = np.concatenate([[0], np.cumsum(activity)])
    crowds.sort_rows(indptr, columns)
    of_items = (ITEM_SPREAD * rng.standard_normal(items)).astype(np.float32)
    of_users = (USER_SPREAD * rng.standard_normal(users)).astype(np.float32)
    levels = np.empty(rating_count, dtype=np.uint8)
    for start in range(0, rating_count, CHUNK_RATINGS):
        some = columns[start : start + CHUNK_RATINGS]
        rows = np.searchsorted(indptr, np.arange(start, start + len(some)), "right") - 1
        stars = np.einsum("nd,nd->n", user_taste[rows], item_taste[some])
        stars *= TASTE_IN_RATING
        stars += MEAN_RATING + of_items[some] + of_users[rows]
        stars += NOISE_SPREAD * rng.standard_normal(len(some), dtype=np.float32)
        levels[start : start + len(some)] = SCALE.nearest_levels(stars)
    return RatingMatrix(indptr, columns, levels, items, SCALE)


def _hand_out(columns: NDArray[np.int32], items: int, rng: np.random.Generator) -> None:
    """What _rate_every_item does, in place, at the cost of the unrated items alone."""
    counts = np.bincount(columns, minlength=items)
    unrated = np.flatnonzero(counts == 0)[: max(len(columns) - int((counts > 0).sum()), 0)].tolist()
    while unrated:
        for place in rng.integers(len(columns), size=len(unrated)):
            if unrated and counts[columns[place]] > 1:
                counts[columns[place]] -= 1
                columns[place] = unrated.pop()
                counts[columns[place]] = 1


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
) -> NDArray[np.int32]:
    """Items of every rating [N], users ascending: drawn without replacement by weight.

    The race of exponentials: the n smallest of E_i / w_i, E_i ~ Exp(1), are n draws without
    replacement with weights w_i.
    """
    users, items = len(user_taste), len(item_taste)
    chunk = max(1, CHUNK_CELLS // items)
    base = popularity.astype(np.float32)
    chosen = np.empty(int(activity.sum()), dtype=np.int32)
    place = 0
    for start in range(0, users, chunk):
        tastes = user_taste[start : start + chunk]
        times = tastes @ (item_taste.T * np.float32(-TASTE_IN_CHOICE))
        times -= base
        np.exp(times, out=times)
        times *= rng.standard_exponential(times.shape, dtype=np.float32)
        for row, count in zip(times, activity[start : start + chunk].tolist(), strict=True):
            chosen[place : place + count] = np.argpartition(row, count - 1)[:count]
            place += count
    return chosen


def _rate_every_item(columns: NDArray[np.int32], items: int, rng: np.random.Generator) -> None:
    """Hand every unrated item one rating of an item that keeps another, as far as there are any."""
    unrated = np.flatnonzero(np.bincount(columns, minlength=items) == 0)
    spare = np.ones(len(columns), dtype=bool)
    spare[np.unique(columns, return_index=True)[1]] = False
    givers = rng.permutation(np.flatnonzero(spare))[: len(unrated)]
    columns[givers] = unrated[: len(givers)]
