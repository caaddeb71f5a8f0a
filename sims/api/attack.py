"""`vicinal.attack`: the ratings of fake users who promote items."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import InputError
from common.ratings import RatingMatrix
from common.threads import one_thread
from server.data.datasets import Dataset
from sims.api.data import load
from sims.api.ids import Id, Ids
from sims.api.surroundings import reporting
from sims.attacks.budget import ATTACK_SIZE, Attack
from sims.attacks.options import Value
from sims.attacks.own import own_attack
from sims.attacks.profiles import Profiles
from sims.attacks.provenance import made_for_others, of_data
from sims.evaluation.experiment import (
    FILE_PREFIX,
    NO_ATTACK,
    Experiment,
    attacked,
    check,
)
from sims.evaluation.splits import leave_one_out
from sims.functions import resolved
from sims.numbers import seed_of, several, share


def attack(
    attack: str | Callable[..., Any],
    data: Any,
    *,
    seed: int = 0,
    targets: Sequence[Id] | None = None,
    attack_size: float | None = None,
    options: Mapping[str, Value] | None = None,
    hold_out: bool = False,
    progress: bool = False,
) -> Profiles:
    """The profiles of an attack on some ratings.

    attack       mixrand and the like, `PATH.py:FUNCTION`, `file:PATH` of a profiles file, or a
                 function (docs/how-to/own-attack.md)
    data         what `load` gives or takes
    seed         of targets and attack
    targets      ids of the items to promote; None draws five unpopular ones from the seed
    attack_size  fakes as a share of real users, at most 0.5; None is 0.03. `file:PATH` has its own
    options      of the attack, by name
    hold_out     attack the ratings that `evaluate` and `vicinal attack` train on: without one
                 rating of every user
    progress     whether to show bars

    Raises InputError, also for a function that fails or breaks what attacks promise.
    """
    seed = seed_of(seed)
    loaded = load(data, seed=seed)
    name, function = named_attack(attack)
    if name == NO_ATTACK and function is None:
        raise InputError("attack none: makes no profiles; choose another")
    if attack_size is not None and function is None and name.startswith(FILE_PREFIX):
        raise InputError(f"attack {name}: these profiles are made; leave out attack_size")
    experiment = Experiment(
        dataset=loaded.name,
        attack=name,
        seed=seed,
        targets=target_indices(loaded, targets),
        attack_size=ATTACK_SIZE if attack_size is None else share("attack size", attack_size),
        attack_options=options or {},
    )
    check(experiment, attack=function)
    ratings: RatingMatrix = loaded.ratings
    with one_thread(), reporting(progress) as report:
        if hold_out:
            ratings = leave_one_out(loaded, kind=loaded.reading.split, seed=seed).train
        made = attacked(experiment, ratings, attack=function, progress=report)
    assert made is not None
    made_for_others(made, loaded)
    return made if name.startswith(FILE_PREFIX) else of_data(made, loaded)


def named_attack(attack: str | Callable[..., Any]) -> tuple[str, Attack | None]:
    """The name that an experiment has for an attack, and the function where it is one."""
    if isinstance(attack, str):
        return resolved(attack), None
    name = getattr(attack, "__name__", type(attack).__name__)
    return name, own_attack(attack, name)


def target_indices(data: Dataset, targets: Sequence[Id] | None) -> tuple[int, ...] | None:
    """Items by their ids. Raises InputError for an unknown one."""
    if targets is None:
        return None
    ids = Ids.of_items(data)
    return tuple(ids.index(target) for target in several("targets", targets))


def user_indices(
    data: Dataset, users: int | np.integer[Any] | Sequence[Id] | None
) -> int | tuple[int, ...] | None:
    """The size of a sample, or users by their ids. Raises InputError for an unknown one."""
    if users is None or isinstance(users, int | np.integer):
        return None if users is None else int(users)
    ids = Ids.of_users(data)
    return tuple(ids.index(user) for user in several("users", users))
