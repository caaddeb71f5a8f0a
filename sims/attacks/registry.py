"""The attacks by name. To add one, write its module and name it here."""

import zlib
from difflib import get_close_matches
from typing import Final, Protocol

import numpy as np

from common.errors import InputError
from common.ratings import RatingMatrix
from server.profiles import Profiles
from sims.attacks.average import average_attack, uniform_attack
from sims.attacks.mixrand import mixrand_attack
from sims.attacks.profile import ATTACK_SIZE, Budget, choose_targets
from sims.attacks.random import random_attack


class Attack(Protocol):
    """Make the profiles [F, I] of an attack on real ratings [U, I]."""

    def __call__(
        self,
        ratings: RatingMatrix,
        targets: tuple[int, ...],
        budget: Budget,
        *,
        rng: np.random.Generator,
    ) -> RatingMatrix: ...


ATTACKS: Final[dict[str, Attack]] = {
    "random": random_attack,
    "average": average_attack,
    "uniform": uniform_attack,
    "mixrand": mixrand_attack,
}


def attack_named(name: str) -> Attack:
    """Raises InputError for a name that is not in ATTACKS."""
    if name not in ATTACKS:
        near = get_close_matches(name, ATTACKS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"unknown attack {name!r}: {hint}choose one of {', '.join(ATTACKS)}, or file:PATH"
        )
    return ATTACKS[name]


def targets_of(
    ratings: RatingMatrix, *, seed: int, targets: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The targets as named, else five drawn from the seed: the same ones for every attack.

    Raises InputError for a target that is not an item or is named twice, and for none at all.
    """
    if targets is None:
        return choose_targets(ratings, rng=_stream(seed, "targets"))
    for target in targets:
        if not 0 <= target < ratings.item_count:
            raise InputError(f"target {target} is not an item (0–{ratings.item_count - 1})")
    if not targets or len(set(targets)) != len(targets):
        raise InputError("name at least one target, each once")
    return targets


def make_profiles(
    name: str,
    ratings: RatingMatrix,
    *,
    seed: int,
    targets: tuple[int, ...] | None = None,
    attack_size: float = ATTACK_SIZE,
) -> Profiles:
    """Run an attack; the same arguments give the same profiles.

    Raises InputError for an unknown attack, targets that cannot be promoted, or a budget that
    makes no sense.
    """
    attack = attack_named(name)
    targets = targets_of(ratings, seed=seed, targets=targets)
    budget = Budget.of(ratings, targets, attack_size)
    fakes = attack(ratings, targets, budget, rng=_stream(seed, name))
    notes = {
        "attack": name,
        "seed": str(seed),
        "fakes": str(budget.fakes),
        "profile_size": str(budget.profile_size),
        "source_digest": ratings.digest(),
    }
    return Profiles(fakes, targets, notes)


def _stream(seed: int, name: str) -> np.random.Generator:
    """A named child stream, so that targets do not change with the attack."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
