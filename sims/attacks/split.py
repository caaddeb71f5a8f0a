"""Split: an attacker who spends a part of the fakes on the model and the rest on neighborhoods.

A defense that asks a user's neighbors corrects what was learned from fakes far away; the fakes
nearby then have to say little. So one part of the budget poisons the model all users share, by one
attack, and the other comes into neighborhoods, by another.
"""

from typing import Any, Final

import numpy as np

from common.errors import InputError
from common.ratings import RatingMatrix
from sims.attacks.budget import Aimed, Budget
from sims.attacks.options import check, choose, declared
from sims.attacks.registry import ATTACKS, DEMOTING, attack_named

# Both parts make profiles for everybody, and praise the targets.
PARTS: Final = tuple(name for name in ATTACKS if name not in {"split", "group", *DEMOTING})


def split_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    share: float = 0.5,
    poison: str = "mixrand",
    surround: str = "covering",
    space: str = "ratings",
    k: int = 80,
) -> RatingMatrix:
    """Some fakes by one attack and the rest by another.

    share     of the fakes that go into neighborhoods; at least one, and one is left for the model
    poison    the attack on the model
    surround  the attack on neighborhoods
    space, k  where neighbors are near, and how many; for an attack that has these options

    Raises InputError for a single fake.
    """
    check("share", share, 0, 1)
    choose("poison", poison, PARTS)
    choose("surround", surround, PARTS)
    if budget.fakes < 2:  # one for each part
        raise InputError("attack split: one fake cannot be split; raise --attack-size")
    near = min(max(round(share * budget.fakes), 1), budget.fakes - 1)
    parts = []
    for name, fakes in ((poison, budget.fakes - near), (surround, near)):
        attack = attack_named(name)
        wanted: dict[str, Any] = {"space": space, "k": k}
        options = {key: value for key, value in wanted.items() if key in declared(attack)}
        made = attack(ratings, targets, Budget(fakes, budget.profile_size), rng=rng, **options)
        assert not isinstance(made, Aimed)
        parts.append(made)
    return parts[0].stack(parts[1])
