"""What every attack shares: its budget, its targets, and how a profile is put together.

Shapes: U real users, I items, F fakes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix

# The paper's attack: 3 % fake users, five unpopular targets (Attacker's Capability).
ATTACK_SIZE: Final = 0.03
TARGET_COUNT: Final = 5
MAX_ATTACK_SIZE: Final = 0.5
# Popularity of an item that counts as unpopular: as the targets published with the data sets.
UNPOPULAR: Final = range(1, 5)


@dataclass(frozen=True)
class Budget:
    """What an attacker may inject.

    fakes         profiles: int(attack size · U)
    profile_size  ratings in a profile, targets included: at most the mean of real users
    """

    fakes: int
    profile_size: int

    @classmethod
    def of(
        cls, ratings: RatingMatrix, targets: tuple[int, ...], attack_size: float = ATTACK_SIZE
    ) -> "Budget":
        """Raises InputError for a budget of nobody, of over half of the users, or too small
        for the targets.

        >>> from common.ratings import RatingScale
        >>> five = RatingMatrix.from_triples(
        ...     [0, 0, 1, 1], [0, 1, 1, 2], [4, 4, 4, 4],
        ...     user_count=2, item_count=3, scale=RatingScale(1, 5, 1))
        >>> Budget.of(five, (0,), attack_size=0.5)
        Budget(fakes=1, profile_size=2)
        """
        if not 0 < attack_size <= MAX_ATTACK_SIZE:
            raise InputError(f"attack size {attack_size:g}: choose a share of users in (0, 0.5]")
        fakes = int(attack_size * ratings.user_count)
        if fakes < 1:
            raise InputError(
                f"attack size {attack_size:g} of {ratings.user_count} users is no fake at all: "
                "raise --attack-size"
            )
        profile_size = len(ratings) // ratings.user_count
        if profile_size < len(targets):
            raise InputError(
                f"a profile of {profile_size} ratings (the mean of real users) has no room for "
                f"{len(targets)} targets: name fewer with --targets"
            )
        return cls(fakes, profile_size)


class Attack(Protocol):
    """Make the profiles [F, I] of an attack on the real ratings [U, I] that it knows.

    More keyword-only parameters, with defaults, are the attack's options (sims.attacks.options).
    """

    def __call__(
        self,
        ratings: RatingMatrix,
        targets: tuple[int, ...],
        budget: Budget,
        *,
        rng: np.random.Generator,
    ) -> RatingMatrix: ...


def choose_targets(
    ratings: RatingMatrix, *, rng: np.random.Generator, exclude: tuple[int, ...] = ()
) -> tuple[int, ...]:
    """Five random unpopular items: few ratings, at least one. Raises InputError."""
    counts = ratings.item_counts()
    counts[list(exclude)] = 0
    unpopular = np.flatnonzero((counts >= UNPOPULAR.start) & (counts < UNPOPULAR.stop))
    if len(unpopular) < TARGET_COUNT:
        raise InputError(
            f"only {len(unpopular)} items have {UNPOPULAR.start}–{UNPOPULAR.stop - 1} ratings: "
            "name targets with --targets"
        )
    return tuple(rng.choice(unpopular, TARGET_COUNT, replace=False).tolist())


def assemble(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    fillers: Iterable[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> RatingMatrix:
    """Profiles from filler items and their ratings in the data set's units, [F, I].

    Fillers are rounded to the grid and clipped to the scale; every target gets the maximum.
    """
    scale = ratings.scale
    users, items, levels = [], [], []
    count = 0
    for chosen, values in fillers:
        users.append(np.full(len(chosen) + len(targets), count))
        items.append(np.concatenate([chosen, np.array(targets, dtype=np.int64)]))
        top = np.full(len(targets), scale.level_count - 1, dtype=np.uint8)
        levels.append(np.concatenate([scale.nearest_levels(values), top]))
        count += 1
    return RatingMatrix.from_triples(
        np.concatenate(users),
        np.concatenate(items),
        np.concatenate(levels),
        user_count=count,
        item_count=ratings.item_count,
        scale=scale,
    )


def fillable(ratings: RatingMatrix, targets: tuple[int, ...]) -> NDArray[np.int64]:
    """Items that may be fillers: all but the targets."""
    return np.setdiff1d(np.arange(ratings.item_count), np.array(targets, dtype=np.int64))
