"""Robust training of matrix factorization: the baselines beside the vicinal defense."""

from server.robust.methods import Apr, Ltsmf, Rmf, Robust, Unrated
from server.robust.trainers import robust_factors

__all__ = ["Apr", "Ltsmf", "Rmf", "Robust", "Unrated", "robust_factors"]
