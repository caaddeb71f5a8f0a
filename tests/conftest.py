"""Shared fixtures: small, read-only, made from seeds."""
