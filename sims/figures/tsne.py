"""t-SNE of at most a few thousand points, exactly (van der Maaten & Hinton 2008).

Shapes: N points, D their width.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError

Matrix = NDArray[np.float64]

STEPS: Final = 500
# Early on, attraction is this many times stronger, so that clusters form before they spread.
EXAGGERATION: Final = 12.0
EXAGGERATED_STEPS: Final = 150
SEARCH_STEPS: Final = 50
LEAST_GAIN: Final = 0.01
TINY: Final = 1e-12


def tsne(points: NDArray[np.floating], *, perplexity: float = 30.0, steps: int = STEPS) -> Matrix:
    """Points [N, D] laid out in the plane, [N, 2]; the same points give the same picture.

    Raises InputError for fewer points than three times the perplexity: all are neighbors then.
    """
    count = len(points)
    if count < 3 * perplexity:
        raise InputError(f"t-SNE of {count} points: give at least {3 * perplexity:g}")
    wanted = joint_affinities(points, perplexity)
    layout = _principal(points.astype(np.float64)) * 1e-4
    change, gain = np.zeros_like(layout), np.ones_like(layout)
    rate = max(count / EXAGGERATION / 4, 50.0)
    for step in range(steps):
        early = step < EXAGGERATED_STEPS
        gradient = _gradient(layout, wanted * (EXAGGERATION if early else 1.0))
        # A coordinate that keeps its direction goes faster, one that swings slower.
        steady = np.sign(gradient) != np.sign(change)
        gain = np.maximum(np.where(steady, gain + 0.2, gain * 0.8), LEAST_GAIN)
        change = (0.5 if early else 0.8) * change - rate * gain * gradient
        layout = layout + change
        layout -= layout.mean(axis=0)
    return layout


def joint_affinities(points: NDArray[np.floating], perplexity: float) -> Matrix:
    """How much each pair belongs together, [N, N]: symmetric, sums to 1.

    Every point's Gaussian is as wide as gives it `perplexity` neighbors.
    """
    distances = _squared_distances(points.astype(np.float64))
    distances /= max(float(distances.mean()), TINY)
    count = len(points)
    low, high = np.zeros(count), np.full(count, np.inf)
    precision = np.ones(count)
    off = ~np.eye(count, dtype=bool)
    # The nearest at 0, so that not all of a far point's weights vanish.
    shifted = distances - np.where(off, distances, np.inf).min(axis=1, keepdims=True)
    for _ in range(SEARCH_STEPS):
        weights = np.exp(-np.maximum(shifted, 0) * precision[:, None]) * off
        shares = weights / weights.sum(axis=1, keepdims=True)
        entropy = -(shares * np.log(np.maximum(shares, TINY))).sum(axis=1)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + high) / 2)
    joint: Matrix = (shares + shares.T) / (2 * count)
    return joint


def divergence(layout: Matrix, wanted: Matrix) -> float:
    """What is minimized: KL of the layout's affinities from the wanted ones."""
    kernel = _kernel(layout)
    found = np.maximum(kernel / kernel.sum(), TINY)
    return float((wanted * np.log(np.maximum(wanted, TINY) / found)).sum())


def _gradient(layout: Matrix, wanted: Matrix) -> Matrix:
    kernel = _kernel(layout)
    pull = (wanted - kernel / kernel.sum()) * kernel
    gradient: Matrix = 4 * (pull.sum(axis=1)[:, None] * layout - pull @ layout)
    return gradient


def _kernel(layout: Matrix) -> Matrix:
    kernel: Matrix = 1 / (1 + _squared_distances(layout))
    np.fill_diagonal(kernel, 0)
    return kernel


def _squared_distances(points: Matrix) -> Matrix:
    norms = np.square(points).sum(axis=1)
    distances: Matrix = np.maximum(norms[:, None] + norms - 2 * points @ points.T, 0)
    return distances


def _principal(points: Matrix) -> Matrix:
    """The two widest directions, scaled to a spread of 1, [N, 2]; their signs are fixed."""
    centered = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    axes = np.vstack([axes, np.zeros_like(axes)])[:2]  # of one-dimensional points, too
    axes *= np.where(axes[np.arange(2), np.abs(axes).argmax(axis=1)] < 0, -1, 1)[:, None]
    spread = centered @ axes.T
    principal: Matrix = spread / max(float(spread.std()), TINY)
    return principal
