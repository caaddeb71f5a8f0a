"""Recommenders to compare with, by name."""

from server.baselines.recommender import BaselineRecommender, require_no_defense
from server.baselines.registry import BASELINES, Scorer

__all__ = ["BASELINES", "BaselineRecommender", "Scorer", "require_no_defense"]
