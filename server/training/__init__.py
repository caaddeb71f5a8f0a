"""Robust training of matrix factorization: the baselines beside the vicinal defense."""

from server.training.methods import Apr, Ltsmf, Rmf, Robust, Unrated
from server.training.robust import robust_factors

__all__ = ["Apr", "Ltsmf", "Rmf", "Robust", "Unrated", "robust_factors"]
