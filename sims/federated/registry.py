"""The update attacks by name. To add one, write its module and name it here."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, cast

import numpy as np

from common.errors import InputError
from common.names import unknown
from common.ratings import RatingMatrix
from sims.attacks.options import Value, convert, declared
from sims.federated.attacker import Attacker, Known
from sims.numbers import stream

# Malicious clients keep to the protocol, and train on what ratings they have.
NO_UPDATE_ATTACK: Final = "none"
# Share of real ratings that are public, which every attack may read: the paper's of FedRecAttack.
PUBLIC: Final = "public"
PUBLIC_SHARE: Final = 0.01

# Where each attack is, module:function; imported when it runs, since some need torch.
UPDATE_ATTACKS: Final[dict[str, str]] = {
    "pipattack": "sims.federated.pipattack:pipattack",
    "fedrecattack": "sims.federated.fedrecattack:fedrecattack",
    "pieck-ipe": "sims.federated.pieck:pieck_ipe",
    "pieck-uea": "sims.federated.pieck:pieck_uea",
}


def update_attack_named(name: str) -> Callable[..., Attacker]:
    """Raises InputError for a name that no attack has."""
    if name not in UPDATE_ATTACKS:
        raise unknown("update attack", name, [*UPDATE_ATTACKS, NO_UPDATE_ATTACK])
    module, _, function = UPDATE_ATTACKS[name].partition(":")
    return cast(Callable[..., Attacker], getattr(import_module(module), function))


def resolved_options(name: str, given: Mapping[str, Value]) -> dict[str, Value]:
    """All options of an attack, as given or by default.

    Raises InputError for one that it does not have, and for a value of the wrong type.
    """
    if name == NO_UPDATE_ATTACK:
        if given:
            raise InputError("update attack none has no options: leave them out")
        return {}
    known = declared(update_attack_named(name))
    for option in given:
        if option not in known and option != PUBLIC:
            raise unknown("option", option, [*known, PUBLIC], where=f"update attack {name}")
    values: dict[str, Value] = {
        option: convert(option, given[option], parameter) if option in given else parameter.default
        for option, parameter in known.items()
    }
    share = float(given.get(PUBLIC, PUBLIC_SHARE))
    if not 0 < share <= 1:
        raise InputError(f"attack option {PUBLIC}={share:g}: choose a share in (0, 1]")
    return {**values, PUBLIC: share}


def attacker_of(
    name: str,
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    *,
    width: int,
    seed: int,
    options: Mapping[str, Value] | None = None,
) -> Attacker:
    """An attacker of a fleet whose real users have these ratings. Raises InputError."""
    values: dict[str, Any] = resolved_options(name, options or {})
    rng = stream(seed, PUBLIC)
    share = float(values.pop(PUBLIC))
    kept = np.sort(rng.choice(len(ratings), max(round(share * len(ratings)), 1), replace=False))
    public = RatingMatrix.from_triples(
        ratings.users[kept],
        ratings.items[kept],
        ratings.levels[kept],
        user_count=ratings.user_count,
        item_count=ratings.item_count,
        scale=ratings.scale,
    )
    known = Known(np.sort(np.array(targets, dtype=np.int64)), public, ratings.item_counts(), width)
    return update_attack_named(name)(known, **values)
