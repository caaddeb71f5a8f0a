"""Attacks: what makes a profiles file."""

from sims.attacks.profile import Budget, choose_targets
from sims.attacks.registry import ATTACKS, Attack, make_profiles

__all__ = ["ATTACKS", "Attack", "Budget", "choose_targets", "make_profiles"]
