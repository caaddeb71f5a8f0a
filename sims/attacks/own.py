"""An attack of one's own: a function like those of the registry, held to what attacks promise.

Shapes: U users, I items, F fakes.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, VicinalError
from common.ratings import RatingMatrix
from sims.attacks.budget import Attack, Budget
from sims.attacks.options import declared
from sims.functions import failure, label, load_function

SIGNATURE = "function(ratings, targets, budget, *, rng)"


def own_attack(function: Callable[..., Any], name: str) -> Attack:
    """The function as an attack: what it gives is checked, and may be a table.

    It may give a RatingMatrix of the fakes, or a table [F, I] of ratings in the data's units with
    0 where there is none. Raises InputError for a function that cannot be called as an attack is;
    the attack raises it for a function that fails, and for profiles that break the contract.
    """
    _check_signature(function, name)

    @functools.wraps(function)
    def attack(
        ratings: RatingMatrix,
        targets: tuple[int, ...],
        budget: Budget,
        *,
        rng: np.random.Generator,
        **options: Any,
    ) -> RatingMatrix:
        try:
            made = function(ratings, targets, budget, rng=rng, **options)
        except VicinalError:
            raise
        except (Exception, SystemExit) as error:
            file = getattr(getattr(function, "__code__", None), "co_filename", None)
            raise InputError(f"attack {name} failed: {failure(error, file)}") from error
        fakes = _matrix(made, ratings, name)
        check_contract(fakes, ratings, targets, budget, name)
        return fakes

    return cast(Attack, attack)


def attack_in_file(name: str) -> Attack:
    """`PATH.py:FUNCTION`. Raises InputError, as own_attack does."""
    function = load_function(name, "attack")
    return own_attack(function, label(name))


def check_contract(
    fakes: RatingMatrix,
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    name: str,
) -> None:
    """Raises InputError for other items, more than the budget, and a target below the maximum."""

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise InputError(f"attack {name}: {what}")

    require(
        fakes.item_count == ratings.item_count,
        f"gives {fakes.item_count} items, where the data has {ratings.item_count}",
    )
    require(
        fakes.scale == ratings.scale, f"gives ratings {fakes.scale}, the data has {ratings.scale}"
    )
    require(
        1 <= fakes.user_count <= budget.fakes,
        f"gives {fakes.user_count} fakes: give 1–{budget.fakes} (budget.fakes)",
    )
    sizes = np.diff(fakes.indptr)
    widest = int(sizes.argmax())
    require(
        int(sizes[widest]) <= budget.profile_size,
        f"fake {widest} has {sizes[widest]} ratings: give at most {budget.profile_size} "
        "(budget.profile_size), targets included",
    )
    top = fakes.scale.level_count - 1
    for target in targets:
        praised = fakes.users[(fakes.items == target) & (fakes.levels == top)]
        missing = np.setdiff1d(np.arange(fakes.user_count), praised)
        require(
            not len(missing),
            f"fake {missing[0] if len(missing) else 0} does not rate target {target} at the "
            f"maximum, {fakes.scale.maximum:g}",
        )


def _check_signature(function: Callable[..., Any], name: str) -> None:
    if not callable(function):
        raise InputError(f"attack {name}: is a {type(function).__name__}, not a function")
    try:
        inspect.signature(function).bind(None, None, None, rng=None)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"attack {name}: cannot be called as {SIGNATURE}: {error}; options are keyword-only "
            "parameters with a default"
        ) from None
    declared(function)


def _matrix(made: object, ratings: RatingMatrix, name: str) -> RatingMatrix:
    if isinstance(made, RatingMatrix):
        return made
    try:
        table: NDArray[Any] = np.asarray(made)
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.ndim != 2 or table.dtype.kind not in "fiu":
        raise InputError(
            f"attack {name}: gives a {type(made).__name__}: give a RatingMatrix, or a table of "
            f"fakes × {ratings.item_count} items in the data's units with 0 where there is no "
            "rating"
        )
    if table.shape[1] != ratings.item_count:
        raise InputError(
            f"attack {name}: gives {table.shape[1]} items, where the data has {ratings.item_count}"
        )
    users, items = np.nonzero(table)
    try:
        levels = ratings.scale.levels(table[users, items])
    except InputError as error:
        raise InputError(f"attack {name}: {error}") from None
    return RatingMatrix.from_triples(
        users,
        items,
        levels,
        user_count=len(table),
        item_count=ratings.item_count,
        scale=ratings.scale,
    )
