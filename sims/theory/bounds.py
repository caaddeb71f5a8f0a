"""The paper's Theorems 1 and 2 as numbers, and a case to hold them against (docs/theory.md).

A loss is the mean over n entries of losses that are each L-Lipschitz where minimizers lie. It
is trained by T steps of gradient descent on all n, then tuned by I steps on the k that are kept.

Run as `python -m sims.theory.bounds` to print how loose the bounds are.

Shapes: n entries, k kept, d embedding width.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Regularity:
    """m-strongly convex, L-Lipschitz, M-smooth, on any part of the data."""

    convexity: float
    lipschitz: float
    smoothness: float

    @property
    def step(self) -> float:
        """The step of gradient descent, 2 / (m + M)."""
        return 2 / (self.convexity + self.smoothness)

    @property
    def contraction(self) -> float:
        """γ = (M − m) / (M + m) = (κ − 1) / (κ + 1), by which a step shrinks the distance."""
        return (self.smoothness - self.convexity) / (self.smoothness + self.convexity)

    def regularized(self, weight: float, radius: float) -> "Regularity":
        """Of the loss plus weight/2 · ‖θ‖² on a ball around 0."""
        return Regularity(
            self.convexity + weight, self.lipschitz + weight * radius, self.smoothness + weight
        )


def deletion_bound(loss: Regularity, *, entries: int, kept: int) -> float:
    """How far the minimizer can move when n − k of n entries are deleted (Lemma 1).

    >>> deletion_bound(Regularity(1.0, 3.0, 2.0), entries=4, kept=2)
    2.0
    """
    return 2 * loss.lipschitz * (entries - kept) / (loss.convexity * (entries + kept))


def distance_bound(
    loss: Regularity, *, entries: int, kept: int, start: float, trained: int, tuned: int
) -> float:
    """Theorem 1: of the tuned parameters from the minimizer over the kept entries.

    start    distance of the first parameters from the minimizer over all n; at most a diameter
    trained  steps T
    tuned    steps I
    """
    moved = deletion_bound(loss, entries=entries, kept=kept)
    return loss.contraction**tuned * (loss.contraction**trained * start + moved)


def sufficient_training(loss: Regularity, *, entries: int, kept: int, start: float) -> int:
    """Steps T after which training adds no more to Theorem 1's bound than deletion does."""
    moved = deletion_bound(loss, entries=entries, kept=kept)
    if start <= moved or loss.contraction == 0:
        return 0 if start <= moved else 1
    return math.ceil(math.log(start / moved) / -math.log(loss.contraction))


def excess_loss_bound(
    loss: Regularity,
    *,
    weight: float,
    radius: float,
    entries: int,
    kept: int,
    trained: int,
    tuned: int,
) -> float:
    """Theorem 2: of a convex loss at the tuned parameters above its minimum over the kept.

    Gradient descent starts at 0 and minimizes the loss plus weight/2 · ‖θ‖².

    radius  of a ball around 0 that holds the minimizers
    """
    regularized = loss.regularized(weight, radius)
    distance = distance_bound(
        regularized, entries=entries, kept=kept, start=radius, trained=trained, tuned=tuned
    )
    return regularized.smoothness / 2 * distance**2 + weight / 2 * radius**2


@dataclass(frozen=True)
class FixedItems:
    """Matrix factorization with its items held fixed: the loss of one user's embedding p.

        f(p) = mean over rated i of (q_i · p − r_i)² + ridge · ‖p‖²

    items    q of what the user rated, [n, d]
    ratings  as fractions of the maximum, [n]
    """

    items: Vector
    ratings: Vector
    ridge: float

    def keep(self, kept: int) -> "FixedItems":
        """The loss over the first `kept` entries."""
        return FixedItems(self.items[:kept], self.ratings[:kept], self.ridge)

    def value(self, p: Vector) -> float:
        errors = self.items @ p - self.ratings
        return float(np.mean(errors**2) + self.ridge * p @ p)

    def gradient(self, p: Vector) -> Vector:
        errors = self.items @ p - self.ratings
        gradient: Vector = 2 * self.items.T @ errors / len(errors) + 2 * self.ridge * p
        return gradient

    def minimizer(self) -> Vector:
        """The one of least norm where there are several."""
        gram = self.items.T @ self.items / len(self.ratings)
        wanted = self.items.T @ self.ratings / len(self.ratings)
        gram += self.ridge * np.eye(len(gram))
        return np.asarray(np.linalg.lstsq(gram, wanted, rcond=1e-10)[0], dtype=np.float64)

    def regularity(self, radius: float) -> Regularity:
        """On a ball around 0, for any part of the entries."""
        norm = float(np.linalg.norm(self.items, axis=1).max())
        slope = 2 * norm * (norm * radius + float(np.abs(self.ratings).max()))
        return Regularity(
            2 * self.ridge, slope + 2 * self.ridge * radius, 2 * norm**2 + 2 * self.ridge
        )


def descend(loss: FixedItems, start: Vector, *, step: float, steps: int) -> Vector:
    """Gradient descent, [d]."""
    p = start.copy()
    for _ in range(steps):
        p = p - step * loss.gradient(p)
    return p


def random_case(*, entries: int, width: int, ridge: float, rng: np.random.Generator) -> FixedItems:
    """Items of expected norm 1 and ratings on a grid of five."""
    items = rng.normal(scale=width**-0.5, size=(entries, width))
    return FixedItems(items, rng.integers(1, 6, entries) / 5, ridge)


def tuned_distance(case: FixedItems, *, kept: int, trained: int, tuned: int) -> tuple[float, float]:
    """Theorem 1 on a case: the distance that is measured, and its bound."""
    rest = case.keep(kept)
    radius = max(float(np.linalg.norm(loss.minimizer())) for loss in (case, rest))
    loss = case.regularity(radius)
    p = descend(case, np.zeros(case.items.shape[1]), step=loss.step, steps=trained)
    p = descend(rest, p, step=loss.step, steps=tuned)
    bound = distance_bound(
        loss, entries=len(case.ratings), kept=kept, start=radius, trained=trained, tuned=tuned
    )
    return float(np.linalg.norm(p - rest.minimizer())), bound


CASES: Final = 200


def looseness(*, ridge: float, tuned: int, seed: int) -> Vector:
    """Bound over measured distance for random cases of 40 entries of which 30 are kept, [CASES]."""
    ratios = []
    for child in np.random.default_rng(seed).spawn(CASES):
        case = random_case(entries=40, width=8, ridge=ridge, rng=child)
        measured, bound = tuned_distance(case, kept=30, trained=100, tuned=tuned)
        ratios.append(bound / measured)
    return np.array(ratios)


def main() -> None:
    """Print the table of docs/theory.md."""
    from rich.console import Console  # noqa: PLC0415 - only to print

    lines = ["| ridge | I | bound / measured: least | median | most |", "|---|---|---|---|---|"]
    for ridge in (0.1, 1.0, 10.0):
        for tuned in (0, 4, 8):
            ratios = looseness(ridge=ridge, tuned=tuned, seed=0)
            shown = (ratios.min(), np.median(ratios), ratios.max())
            lines.append(f"| {ridge:g} | {tuned} | " + " | ".join(f"{x:.3g}" for x in shown) + " |")
    Console(width=100).print("\n".join(lines), highlight=False)


if __name__ == "__main__":
    main()
