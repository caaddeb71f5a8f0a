"""Whole numbers as a program or a command gives them, and the random numbers drawn from a seed."""

import zlib
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from common.errors import InputError

# What every library takes for a seed.
MAX_SEED: Final = 2**63 - 1


def whole(what: str, value: Any, *, least: int, most: int | None = None) -> int:
    """A whole number of Python's. Raises InputError for what is none, or outside [least, most].

    >>> whole("users", np.int64(3), least=1)
    3
    """
    fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not fits or value < least or (most is not None and value > most):
        wanted = f"of at least {least}" if most is None else f"in {least}–{most}"
        raise InputError(f"{what} {value!r:.40}: give a whole number {wanted}")
    return int(value)


def share(what: str, value: Any) -> float:
    """A number of Python's, whatever its bounds. Raises InputError for what is none.

    >>> share("attack size", np.float32(0.5))
    0.5
    """
    fits = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not fits:
        raise InputError(f"{what} {value!r:.40}: give a number")
    return float(value)


def several(what: str, value: Any, alone: tuple[type, ...] = ()) -> list[Any]:
    """A list of what is given, be it several or one of the types that may stand `alone`.

    Raises InputError for what is neither.

    >>> several("attacks", "mixrand", (str,)), several("seeds", range(2))
    (['mixrand'], [0, 1])
    """
    if isinstance(value, alone):
        return [value]
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InputError(f"{what} {value!r:.40}: give a list")
    return list(value)


def seed_of(value: Any) -> int:
    """A seed. Raises InputError."""
    return whole("seed", value, least=0, most=MAX_SEED)


def stream(seed: int, name: str) -> np.random.Generator:
    """A named child stream of a seed, so that two uses of one seed never share their draws.

    Raises InputError.
    """
    return np.random.default_rng([seed_of(seed), zlib.crc32(name.encode())])
