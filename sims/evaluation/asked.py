"""Whom an evaluation asks: everybody, a random sample, or users who are named."""

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ids import PREFIX, Named, parse_named
from common.ratings import RatingMatrix
from server.data.ids import user_indices
from sims.numbers import whole

# A number is the size of a sample; named users are indices, or ids as `id:ALICE`.
AskedUsers = int | tuple[Named, ...] | None
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


def asked_users(said: Any) -> AskedUsers:
    """From what one writes: `200`, `0-99,id:ALICE`, or a list of the latter. Raises InputError.

    >>> asked_users("200"), asked_users("7-7,id:ALICE"), asked_users(["id:ALICE", 7])
    (200, (7, 'id:ALICE'), ('id:ALICE', 7))
    """
    if isinstance(said, str) and not _NUMBER.fullmatch(said.strip()):
        return parse_named("users", said)
    if isinstance(said, list | tuple):
        return _listed(said)
    number = int(said) if isinstance(said, str) else said
    return None if number is None else whole("users", number, least=1)


def _listed(said: list[Any] | tuple[Any, ...]) -> tuple[Named, ...]:
    for each in said:
        named = isinstance(each, str) and each.startswith(PREFIX)
        if not named and (isinstance(each, bool) or not isinstance(each, int)):
            raise InputError(f"users: {each!r:.60}: give indices, or ids as id:ALICE")
    if not said or len(set(said)) != len(said):
        raise InputError("users: name at least one, each once")
    return tuple(said)


def chosen(asked: AskedUsers, ratings: RatingMatrix, *, seed: int) -> NDArray[np.int64]:
    """Indices of users, ascending; a sample is drawn from the seed.

    Raises InputError for a user who is not there.
    """
    everybody = np.arange(ratings.user_count)
    if isinstance(asked, tuple):
        return np.sort(np.array(user_indices(ratings, asked), dtype=np.int64))
    if asked is None or asked >= len(everybody):
        return everybody
    return np.sort(np.random.default_rng(seed).choice(everybody, asked, replace=False))
