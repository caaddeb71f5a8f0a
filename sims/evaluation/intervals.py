"""Intervals over users, and tests between two results of the same users.

Users are drawn again with replacement (Efron and Tibshirani 1993, "An Introduction to the
Bootstrap", sections 13.3 and 16.4). An interval says what other users like these would have
given; what another seed of training gives is another question, and no seeds are mixed here.

Shapes: B users, R resamples, c columns of a ratio.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sims.evaluation.metrics import Ratio
from sims.numbers import stream

RESAMPLES: Final = 1000
PERMUTATIONS: Final = 10_000
LEVEL: Final = 0.95
# Numbers drawn at a time: 16 MB.
_DRAWN: Final = 1 << 21

Interval = tuple[float, float]


def resampled(ratios: Mapping[str, Ratio], *, seed: int) -> dict[str, NDArray[np.float64]]:
    """Each ratio of R resamples of the users, [R]; NaN where nothing was possible.

    The same seed and number of users draw the same users, whatever the ratios are: differences
    between two calls are of the same users.
    """
    won = np.concatenate([one.won for one in ratios.values()], axis=1)
    possible = np.concatenate([one.possible for one in ratios.values()], axis=1)
    both = np.concatenate([won, possible], axis=1)
    sums = np.concatenate([weights @ both for weights in _weights(len(both), seed)])
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = sums[:, : won.shape[1]] / sums[:, won.shape[1] :]
    found, start = {}, 0
    for name, one in ratios.items():
        columns = shares[:, start : start + one.won.shape[1]]
        found[name] = _mean(columns)
        start += columns.shape[1]
    return found


def interval(draws: NDArray[np.float64]) -> Interval | None:
    """The middle 95 % of what resamples gave; None where most of them gave nothing."""
    given = draws[np.isfinite(draws)]
    if 2 * len(given) <= len(draws):
        return None
    low, high = np.quantile(given, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high


def permutation_p(differences: NDArray[np.float64], *, seed: int) -> NDArray[np.float64]:
    """Two-sided p of a sum of paired differences being 0, for each column, [c].

    differences  each user's part of a difference, [B, c]

    Which of its two results a user had first is drawn again, 10,000 times (Good 2005, "Permutation,
    Parametric and Bootstrap Tests of Hypotheses", section 3.1). The smallest p is 1 / 10,001.
    """
    observed = np.abs(differences.sum(axis=0))
    # A sum in another order may differ in its last digits.
    reached = observed * (1 - 1e-9) - 1e-12
    rng, users = stream(seed, "permutation"), len(differences)
    as_far = np.zeros(differences.shape[1])
    for count in _chunks(PERMUTATIONS, users):
        signs = 2.0 * rng.integers(0, 2, (count, users), dtype=np.int8) - 1
        as_far += (np.abs(signs @ differences) >= reached).sum(axis=0)
    p: NDArray[np.float64] = (as_far + 1) / (PERMUTATIONS + 1)
    return p


def _weights(users: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each resample drew each user, [·, B]."""
    rng = stream(seed, "bootstrap")
    for count in _chunks(RESAMPLES, users):
        drawn = rng.integers(0, users, (count, users))
        drawn += users * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * users)
        yield weights.reshape(count, users).astype(np.float64)


def _chunks(total: int, users: int) -> Iterator[int]:
    size = max(1, _DRAWN // max(users, 1))
    for start in range(0, total, size):
        yield min(size, total - start)


def _mean(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the columns that have a number, [R]; NaN where none has."""
    given = np.isfinite(columns)
    sums, counts = np.where(given, columns, 0).sum(axis=1), given.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
