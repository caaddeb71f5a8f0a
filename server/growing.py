"""Parameters for users and items that came after a training, from ratings alone.

A new user of a model that is nothing but a vector for each user is folded in: the vector that fits
the user's own ratings, items held fixed (server.importing.fold_in). Beside an encoder, which reads
the ratings, the mean of the others' vectors does. Models without vectors need nothing.

Shapes: U users of before, V users now, I items of before, J items now, d embedding width.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.models import Model
from common.ratings import RatingMatrix
from server.importing.fold_in import chosen, fold_in
from server.model_store import StoredModel
from server.recommending.recommender import Recommender

Tables = Mapping[str, NDArray[np.float32]]


def with_new_users(
    model: Model,
    shared: Tables,
    users: Tables,
    known: NDArray[np.integer],
    before: RatingMatrix,
    new: RatingMatrix,
) -> dict[str, NDArray[np.float32]]:
    """User tables with rows for new users below those that are there, [V, …].

    shared  the model's tables that are no user's
    known   users whose rows are trained, among those of before
    before  ratings of all of `users` [U, I]
    new     ratings of the new ones [V − U, I]
    """
    tables = {}
    for name, rows in users.items():
        added = np.empty((new.user_count, rows.shape[1]), dtype=np.float32)
        if model.inputs == "none":
            items = shared["item_embedding"]
            how = chosen(before, known, rows, items)
            added[:] = fold_in(np.arange(new.user_count), new, items, how)
        else:
            added[:] = rows[known].mean(axis=0, dtype=np.float64)
        tables[name] = np.concatenate([rows, added])
    return tables


def with_appeared(
    model: Model,
    shared: Tables,
    users: Tables,
    before: RatingMatrix,
    now: RatingMatrix,
) -> dict[str, NDArray[np.float32]]:
    """User tables in which those are folded in who had no ratings and have some now, [U, …].

    before, now  ratings of all of `users` [U, I]
    """
    had, has = (np.diff(ratings.indptr) > 0 for ratings in (before, now))
    appeared, known = np.flatnonzero(has & ~had), np.flatnonzero(had)
    tables = {name: rows.copy() for name, rows in users.items()}
    if not len(appeared) or not len(known):
        return tables
    for rows in tables.values():
        if model.inputs == "none":
            items = shared["item_embedding"]
            rows[appeared] = fold_in(appeared, now, items, chosen(before, known, rows, items))
        else:
            rows[appeared] = rows[known].mean(axis=0, dtype=np.float64)
    return tables


def with_new_items(
    model: Model, shared: Tables, users: Tables, ratings: RatingMatrix
) -> dict[str, NDArray[np.float32]]:
    """Shared tables with rows for new items where users are vectors alone, [J, …].

    users    tables of all users of `ratings` [V, J]

    The same fit the other way round: an item's vector from those who rated it. Where the ratings
    are read by an encoder, new items start as training starts them.
    """
    before = len(shared["item_embedding"]) if model.tables else ratings.item_count
    if model.inputs != "none" or before == ratings.item_count or not model.tables:
        return dict(shared)
    of_items = _transposed(ratings)
    table, vectors = shared["item_embedding"], users["user_embedding"]
    rated = np.flatnonzero(np.diff(of_items.indptr)[:before])
    how = chosen(of_items, rated, table, vectors)
    added = fold_in(np.arange(before, ratings.item_count), of_items, vectors, how)
    return {**shared, "item_embedding": np.concatenate([table, added])}


def with_later(base: Recommender, new: RatingMatrix) -> Recommender:
    """The same version with real users who came after it, behind those whom it was trained on.

    new  their ratings [V − U, I]

    They are nobody's neighbors, so that everybody else's answers stay what they are.
    """
    count, later, stored = base.user_count, new.user_count, base.stored
    everybody, ratings = np.arange(base.ratings.user_count), base.ratings
    real = ratings.rows(everybody[:count])
    known = np.setdiff1d(everybody[:count], stored.left_out)
    users = with_new_users(
        base.version.served.model,
        base.version.parameters,
        {name: rows[:count] for name, rows in stored.user_parameters.items()},
        known,
        real,
        new,
    )
    whole = {
        name: np.concatenate([rows, stored.user_parameters[name][count:]])
        for name, rows in users.items()
    }
    out = stored.left_out
    shifted = np.concatenate(
        [out[out < count], np.arange(count, count + later), out[out >= count] + later]
    ).astype(np.int64)
    return Recommender(
        StoredModel(stored.version, whole, stored.path, shifted, later),
        real.stack(new).stack(ratings.rows(everybody[count:])),
        count + later,
        search=base.search,
    )


def as_trained(
    users: Tables, left_out: NDArray[np.int64], real: int, later: int
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    """What with_later() started from: user tables, and who was left out then."""
    new = np.arange(real - later, real)
    out = np.setdiff1d(left_out, new)
    out[out >= real] -= later
    return {name: np.delete(rows, new, axis=0) for name, rows in users.items()}, out


def _transposed(ratings: RatingMatrix) -> RatingMatrix:
    """Items as rows and users as columns."""
    return RatingMatrix.from_triples(
        ratings.items,
        ratings.users,
        ratings.levels,
        user_count=ratings.item_count,
        item_count=ratings.user_count,
        scale=ratings.scale,
    )
