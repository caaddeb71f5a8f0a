"""The attacks by name. To add one, write its module and name it here."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.names import unknown
from common.ratings import RatingMatrix
from sims.attacks.budget import ATTACK_SIZE, Aimed, Attack, Budget, Goal, choose_targets
from sims.attacks.options import KNOWLEDGE, TARGETS, Value, resolve
from sims.attacks.own import attack_in_file
from sims.attacks.profiles import Profiles
from sims.functions import function_name, is_function, label
from sims.numbers import stream
from sims.progress import Report, quiet

# Nobody to mix, and nobody to fit a surrogate to, with fewer users.
LEAST_KNOWN_USERS: Final = 2


# Where each attack is, module:function; imported when it runs, since some need torch.
ATTACKS: Final[dict[str, str]] = {
    "random": "sims.attacks.random:random_attack",
    "average": "sims.attacks.average:average_attack",
    "uniform": "sims.attacks.average:uniform_attack",
    "aush": "sims.attacks.aush:aush_attack",
    "pga": "sims.attacks.pga:pga_attack",
    "tna": "sims.attacks.tna:tna_attack",
    "mixrand": "sims.attacks.mixrand:mixrand_attack",
    "mixinf": "sims.attacks.mixinf:mixinf_attack",
    "vicinity": "sims.attacks.vicinity:vicinity_attack",
    "hubclones": "sims.attacks.hubclones:hubclones_attack",
    "covering": "sims.attacks.covering:covering_attack",
    "avgpop": "sims.attacks.avgpop:avgpop_attack",
    "targets-only": "sims.attacks.targets_only:targets_only_attack",
    "group": "sims.attacks.group:group_attack",
    "flood": "sims.attacks.flood:flood_attack",
    "split": "sims.attacks.split:split_attack",
    "unattack": "sims.attacks.unattack:unattack_attack",
    "gcoattack": "sims.attacks.gcoattack:gcoattack_attack",
    "nuke": "sims.attacks.nuke:nuke_attack",
}
# Attacks whose targets are to fall; those of all others are to rise.
DEMOTING: Final = frozenset({"nuke"})


def attack_named(name: str) -> Attack:
    """A registered attack, or the function that `PATH.py:FUNCTION` names (sims.attacks.own).

    Raises InputError.
    """
    if is_function(name):
        return attack_in_file(name)
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS, more=", file:PATH or PATH.py:FUNCTION")
    module, _, function = ATTACKS[name].partition(":")
    return cast(Attack, getattr(import_module(module), function))


def goal_of(name: str) -> Goal:
    """What an attack wants of its targets."""
    return "demote" if name in DEMOTING else "promote"


def targets_of(
    ratings: RatingMatrix,
    *,
    seed: int,
    targets: tuple[int, ...] | None,
    choice: str = "unpopular",
) -> tuple[int, ...]:
    """The targets as named, else five drawn from the seed: the same ones for every attack.

    choice  how well known the drawn ones are (sims.attacks.budget.choose_targets)

    Raises InputError for a target that is not an item or is named twice, for one that everybody
    has rated, who will not be shown it, and for none at all.
    """
    if targets is None:
        return choose_targets(ratings, rng=stream(seed, "targets"), choice=choice)
    counts = ratings.item_counts()
    for target in targets:
        if not 0 <= target < ratings.item_count:
            raise InputError(f"target {target} is not an item (0–{ratings.item_count - 1})")
        if counts[target] == ratings.user_count:
            raise InputError(f"every user has rated target {target}: nobody can be shown it")
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
    options: Mapping[str, Value] | None = None,
    attack: Attack | None = None,
    progress: Report = quiet,
) -> Profiles:
    """Run an attack by name, within the budget; the same arguments give the same profiles.

    attack  what to run under the name; None: the one of that name in ATTACKS

    What it did goes into the notes. Raises InputError for an unknown attack, targets that cannot
    be promoted, a budget that makes no sense, or an option that the attack does not have.
    """
    # A function stands for itself, whatever it is called.
    goal = goal_of(name) if attack is None else "promote"
    attack = attack_named(name) if attack is None else attack
    values, shared = resolve(label(name), attack, options or {})
    choice = shared.targets or ("popular" if goal == "demote" else "unpopular")
    if targets is not None and shared.targets is not None:
        raise InputError(
            f"attack option {TARGETS}={shared.targets}: the targets are named; leave one of the "
            "two out"
        )
    targets = targets_of(ratings, seed=seed, targets=targets, choice=choice)
    budget = Budget.of(ratings, targets, attack_size)
    run = cast(Callable[..., RatingMatrix | Aimed], attack)
    users = _known(ratings, shared.knowledge, seed)
    known = ratings if len(users) == ratings.user_count else ratings.rows(users)
    shown = label(name)
    progress(f"attack {shown}", 0, 1)
    # The same numbers for a function however it is named.
    made = run(known, targets, budget, rng=stream(seed, function_name(name)), **values)
    progress(f"attack {shown}", 1, 1)
    resolved = {KNOWLEDGE: f"{shared.knowledge:g}", **values}
    if shared.targets is not None:
        resolved[TARGETS] = shared.targets
    notes = {
        "attack": shown,
        "seed": str(seed),
        "fakes": str(budget.fakes),
        "profile_size": str(budget.profile_size),
        "options": " ".join(f"{key}={value}" for key, value in resolved.items()),
        "source_digest": ratings.digest(),
    }
    if isinstance(made, Aimed):
        audience = np.sort(users[made.audience]).tolist()
        return Profiles(made.fakes, targets, notes, goal, tuple(audience))
    return Profiles(made, targets, notes, goal)


def _known(ratings: RatingMatrix, knowledge: float, seed: int) -> NDArray[np.int64]:
    """The real users whom the attacker knows, drawn from the seed: the same for every attack."""
    count = min(round(knowledge * ratings.user_count), ratings.user_count)
    if count < LEAST_KNOWN_USERS:
        raise InputError(
            f"attack option {KNOWLEDGE}={knowledge:g}: is {count} of {ratings.user_count} users, "
            f"and no attack works with fewer than {LEAST_KNOWN_USERS}"
        )
    if count == ratings.user_count:
        return np.arange(count)
    rng = stream(seed, KNOWLEDGE)
    return np.sort(rng.choice(ratings.user_count, count, replace=False))
