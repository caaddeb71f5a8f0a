"""What is held out of ratings: one item a user, published with a data set or in a file of its own.

Shapes: U users.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError


@dataclass(frozen=True)
class HeldOut:
    """One item a user: items int32 [U], −1 where there is none; levels uint8 [U], 0 there."""

    items: NDArray[np.int32]
    levels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.items.ndim != 1 or self.items.shape != self.levels.shape:
            raise InputError("held-out items: one item and one level a user are needed")

    @classmethod
    def of(
        cls,
        users: NDArray[np.integer[Any]],
        items: NDArray[np.integer[Any]],
        levels: NDArray[np.uint8],
        user_count: int,
    ) -> "HeldOut":
        """From rows of different users."""
        held, graded = (
            np.full(user_count, -1, dtype=np.int32),
            np.zeros(user_count, dtype=np.uint8),
        )
        held[users], graded[users] = items, levels
        return cls(held, graded)

    @property
    def users(self) -> NDArray[np.int64]:
        """The users who have a held-out item, ascending."""
        return np.flatnonzero(self.items >= 0)
