"""Recommenders to compare with, by name."""

from server.baselines.recommender import BaselineRecommender, require_no_defense
from server.baselines.registry import BASELINES, UNDEFENDED, Scorer

__all__ = ["BASELINES", "UNDEFENDED", "BaselineRecommender", "Scorer", "require_no_defense"]
