"""Attacks: what makes a profiles file."""

from sims.attacks.budget import REPORTED_TARGETS, Attack, Budget, choose_targets
from sims.attacks.registry import (
    ATTACKS,
    attack_named,
    make_profiles,
    targets_of,
)

__all__ = [
    "ATTACKS",
    "REPORTED_TARGETS",
    "Attack",
    "Budget",
    "attack_named",
    "choose_targets",
    "make_profiles",
    "targets_of",
]
