"""Attacks: what makes a profiles file."""

from sims.attacks.budget import Budget, choose_targets
from sims.attacks.registry import (
    ATTACKS,
    Attack,
    attack_named,
    make_profiles,
    targets_of,
)

__all__ = [
    "ATTACKS",
    "Attack",
    "Budget",
    "attack_named",
    "choose_targets",
    "make_profiles",
    "targets_of",
]
