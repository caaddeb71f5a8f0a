"""Recommenders to compare with, by name."""

from server.baselines.registry import BASELINES, Scorer

__all__ = ["BASELINES", "Scorer"]
