"""What every attack shares: its budget, its targets, and how a profile is put together.

Shapes: U real users, I items, F fakes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.names import unknown
from common.ratings import RatingMatrix

# Whether the targets are to be shown to more users, or to fewer.
Goal = Literal["promote", "demote"]
# The paper's attack: 3 % fake users, five unpopular targets (Attacker's Capability).
ATTACK_SIZE: Final = 0.03
TARGET_COUNT: Final = 5
# The targets that results are reported on; the published ones where there are any.
REPORTED_TARGETS: Final = {
    "ml-100k": (1485, 1320, 821, 1562, 1531),
    "filmtrust": (1576, 926, 942, 848, 107),
    "ml-1m": (3445, 825, 1266, 676, 671),
}
MAX_ATTACK_SIZE: Final = 0.5
# How well known the items are that a target is drawn from.
Choice = Literal["unpopular", "middle", "popular"]
# Ratings of an item that counts as unpopular: as the targets published with the data sets.
UNPOPULAR: Final = range(1, 5)
# And of one in the middle: on ML-100K, those around rank 500.
MIDDLE: Final = range(40, 61)
# Targets that are to fall must be shown at all: they are among this many of the most rated items.
MOST_RATED: Final = 20


# Filler items and their ratings in the data set's units, [n] each.
Profile = tuple[NDArray[np.int64], NDArray[np.float64]]


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
                f"raise --attack-size, to {_share_of_one(ratings.user_count)} at least"
            )
        profile_size = len(ratings) // ratings.user_count
        if profile_size < len(targets):
            raise InputError(
                f"a profile of {profile_size} ratings (the mean of real users) has no room for "
                f"{len(targets)} targets: {_room(profile_size, targets)}"
            )
        return cls(fakes, profile_size)


def _share_of_one(users: int) -> str:
    """The least share of so many users that is one of them, in three digits."""
    return f"{min(math.ceil(1e4 / max(users, 1)) / 1e4, MAX_ATTACK_SIZE):g}"


def _room(profile_size: int, targets: tuple[int, ...]) -> str:
    """What to do where a profile has too little room for the targets."""
    fuller = f"leave out users and items of few ratings with --min-ratings {len(targets)}"
    if profile_size < 1:
        return fuller
    fewer = ",".join(map(str, targets[:profile_size]))
    return f"name fewer with --targets, as --targets {fewer}, or {fuller}"


@dataclass(frozen=True)
class Aimed:
    """Profiles that aim at some users: their indices in the ratings that the attack was given."""

    fakes: RatingMatrix
    audience: NDArray[np.int64]


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
    ) -> RatingMatrix | Aimed: ...


def choose_targets(
    ratings: RatingMatrix,
    *,
    rng: np.random.Generator,
    exclude: tuple[int, ...] = (),
    choice: str = "unpopular",
) -> tuple[int, ...]:
    """Five random items: unpopular (1–4 ratings), middle (40–60), or of the 20 most popular.

    Where too few items have 1–4 ratings, the unpopular ones are those with the fewest. Raises
    InputError for another choice, and where there are too few such items.
    """
    counts = ratings.item_counts()
    # Nobody can be shown what everybody has rated.
    counts[counts == ratings.user_count] = 0
    counts[list(exclude)] = 0
    if choice == "popular":
        order = np.argsort(-counts, kind="stable")[:MOST_RATED]
        some, what = np.sort(order[counts[order] > 0]), "ratings"
    elif choice in get_args(Choice):
        wanted = UNPOPULAR if choice == "unpopular" else MIDDLE
        some = np.flatnonzero((counts >= wanted.start) & (counts < wanted.stop))
        what = f"{wanted.start}–{wanted.stop - 1} ratings"
        if choice == "unpopular" and len(some) < TARGET_COUNT:
            # Chance decides among equally popular ones.
            order = np.lexsort((rng.random(len(counts)), counts))
            some, what = order[counts[order] > 0][:TARGET_COUNT], "ratings"
    else:
        raise unknown("choice", choice, get_args(Choice), where="targets")
    if len(some) < TARGET_COUNT:
        others = "" if choice == "popular" else ", or take --attack-option targets=popular"
        raise InputError(f"only {len(some)} items have {what}: name targets with --targets{others}")
    return tuple(rng.choice(some, TARGET_COUNT, replace=False).tolist())


def least_popular_note(ratings: RatingMatrix, targets: tuple[int, ...]) -> tuple[str, ...]:
    """That drawn targets are not as unpopular as those published with the data sets."""
    counts = ratings.item_counts()[list(targets)]
    if not len(counts) or counts.max() < UNPOPULAR.stop:
        return ()
    span = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}–{counts.max()}"
    return (
        f"fewer than {TARGET_COUNT} items have {UNPOPULAR.start}–{UNPOPULAR.stop - 1} ratings: the "
        f"targets are the least popular ones, with {span}",
    )


def assemble(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    fillers: Iterable[Profile],
    *,
    goal: Goal = "promote",
) -> RatingMatrix:
    """Profiles from their fillers, [F, I].

    Fillers are rounded to the grid and clipped to the scale; every target gets the maximum, or
    the minimum where it is to fall.
    """
    scale = ratings.scale
    wished = scale.level_count - 1 if goal == "promote" else 0
    users, items, levels = [], [], []
    count = 0
    for chosen, values in fillers:
        users.append(np.full(len(chosen) + len(targets), count))
        items.append(np.concatenate([chosen, np.array(targets, dtype=np.int64)]))
        praise = np.full(len(targets), wished, dtype=np.uint8)
        levels.append(np.concatenate([scale.nearest_levels(values), praise]))
        count += 1
    return RatingMatrix.from_triples(
        np.concatenate(users),
        np.concatenate(items),
        np.concatenate(levels),
        user_count=count,
        item_count=ratings.item_count,
        scale=scale,
    )


def places_of(ratings: RatingMatrix, targets: tuple[int, ...], user: int) -> NDArray[np.int64]:
    """Where a user's ratings stand in Ω, [n], without those of targets."""
    places = np.arange(ratings.indptr[user], ratings.indptr[user + 1])
    return places[~np.isin(ratings.items[places], targets)]


def copied(ratings: RatingMatrix, places: NDArray[np.int64]) -> Profile:
    """The ratings at these places of Ω as fillers."""
    return ratings.items[places].astype(np.int64), ratings.scale.values[ratings.levels[places]]


def fillable(ratings: RatingMatrix, targets: tuple[int, ...]) -> NDArray[np.int64]:
    """Items that may be fillers: all but the targets."""
    return np.setdiff1d(np.arange(ratings.item_count), np.array(targets, dtype=np.int64))


def most_rated(ratings: RatingMatrix, targets: tuple[int, ...], count: int) -> NDArray[np.int64]:
    """The n = `count` items with most ratings, most first, without targets; fewer if few are rated.

    Of items with equally many ratings the lower index comes first.
    """
    counts = ratings.item_counts()
    counts[list(targets)] = 0
    order = np.argsort(-counts, kind="stable")[:count]
    found: NDArray[np.int64] = order[counts[order] > 0]
    return found
