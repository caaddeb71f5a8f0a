"""Two results of the same users, compared user by user.

Users differ far more from each other than a user's two results do, so that a difference can be
told where two intervals overlap.

Shapes: B users, t target items.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
from rich.table import Table
from rich.text import Text

from common.errors import InputError
from sims.evaluation.intervals import interval, permutation_p, resampled
from sims.evaluation.metrics import Population, Ratio, ratios_of
from sims.evaluation.outcomes import Outcomes
from sims.numbers import seed_of
from sims.rendering import as_html, as_text

if TYPE_CHECKING:
    import polars as pl

# What is compared, and its heading; of lists, what no user of both results lacks.
COMPARED: Final = {
    "hit_ratio": "HR@{K}",
    "hit_ratio_10": "HR@10",
    "hit_ratio_inside": "HR@{K} inside",
    "accuracy": "accuracy@{K}",
    "accuracy_thresholded": "of liked items",
    "accuracy_tail": "of tail items",
    "recall_10": "recall@10",
    "ndcg_10": "nDCG@10",
    "mrr": "MRR",
}


@dataclass(frozen=True)
class UserResults:
    """What came of each user under one condition, and what was asked.

    asked  dataset, digest (of ratings and held-out items), targets, list_length; and model,
           attack, defense, preset, seed, which may differ between two that are compared
    """

    condition: str
    asked: Mapping[str, Any]
    outcomes: Outcomes
    population: Population

    @property
    def label(self) -> str:
        """In a line."""
        names = ("dataset", "model", "attack", "defense")
        told = " · ".join(str(self.asked[name]) for name in names)
        return f"{told} ({self.asked['preset']}) · seed {self.asked['seed']} · {self.condition}"


@dataclass(frozen=True)
class Difference:
    """One metric of both results.

    difference          second − first
    low, high           its 95 % interval, from the same resamples of the users for both
    p                   two-sided, of no difference, by permutation
    only_first, _second of accuracy: users whose held-out item is in that one's list alone, as
                        McNemar counts them; else None
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    only_first: int | None = None
    only_second: int | None = None


@final
@dataclass(frozen=True, repr=False)
class Pairing:
    """Two results, and every metric that both have."""

    first: UserResults
    second: UserResults
    differences: tuple[Difference, ...]

    def __repr__(self) -> str:
        return f"Pairing({self.first.label}; {self.second.label}; {self.users} users)"

    def __str__(self) -> str:
        return as_text(self.table())

    def _repr_html_(self) -> str:
        return as_html(self.table())

    @property
    def users(self) -> int:
        """How many were compared."""
        return len(self.first.outcomes.users)

    def to_json(self) -> dict[str, Any]:
        """What was compared, and each metric's difference under `differences`."""
        return {
            "first": self.first.label,
            "second": self.second.label,
            "users": self.users,
            "differences": [asdict(one) for one in self.differences],
        }

    def frame(self) -> "pl.DataFrame":
        """A row a metric."""
        import polars as pl  # noqa: PLC0415 - heavy, and for this only

        return pl.DataFrame([asdict(one) for one in self.differences], infer_schema_length=None)

    def table(self) -> Table:
        """Both values, the difference with its interval, and p; at most 80 columns wide."""
        title = f"A: {self.first.label}\nB: {self.second.label}\n{self.users} users"
        table = Table(
            title=Text(title, style="table.title"), title_justify="left", caption_justify="left"
        )
        table.caption = Text(self._caption(), style="table.caption")
        table.add_column("")
        for heading in ("A", "B", "B − A", "95 % interval", "p"):
            table.add_column(heading, justify="right")
        length = self.first.outcomes.list_length
        for one in self.differences:
            sure = one.low > 0 or one.high < 0
            table.add_row(
                COMPARED[one.metric].format(K=length),
                f"{one.first:.3f}",
                f"{one.second:.3f}",
                f"{one.difference:+.3f}",
                f"{one.low:+.3f} – {one.high:+.3f}",
                f"{one.p:.4f}",
                style="bold" if sure else None,
            )
        return table

    def _caption(self) -> str:
        told = "Bold: the interval of the difference leaves 0 out. p: permutation test over users."
        for one in self.differences:
            if one.only_first is not None:
                told += (
                    f"\nHeld-out item in A's list alone: {one.only_first} users, in B's alone: "
                    f"{one.only_second}."
                )
        return told


def paired(first: UserResults, second: UserResults, *, seed: int = 0) -> Pairing:
    """Compare two results user by user; `seed` is of resamples and permutations.

    Raises InputError for results of other ratings, users, targets or lists.
    """
    seed = seed_of(seed)
    _check_same(first, second)
    # Whose audience and tail: those of the first, which are the second's unless its attack differs.
    ratios = [ratios_of(one.outcomes, first.population) for one in (first, second)]
    names = [name for name in COMPARED if all(each[name].value is not None for each in ratios)]
    if not names:
        return Pairing(first, second, ())
    one, two = ({name: each[name] for name in names} for each in ratios)
    draws = [resampled(each, seed=seed) for each in (one, two)]
    parts = np.stack([_parts(two[name]) - _parts(one[name]) for name in names], axis=1)
    chances = permutation_p(parts, seed=seed)
    found = []
    for name, p in zip(names, chances.tolist(), strict=True):
        before, after = one[name].value, two[name].value
        bounds = interval(draws[1][name] - draws[0][name])
        assert before is not None and after is not None
        low, high = bounds if bounds is not None else (float("nan"), float("nan"))
        alone: tuple[int, ...] = ()
        if name == "accuracy":
            here, there = first.outcomes.found(), second.outcomes.found()
            alone = int((here & ~there).sum()), int((there & ~here).sum())
        found.append(Difference(name, before, after, after - before, low, high, p, *alone))
    return Pairing(first, second, tuple(found))


def _parts(ratio: Ratio) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What each user adds to a ratio's value, [B]."""
    possible = ratio.possible.sum(axis=0)
    some = possible > 0
    parts: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        ratio.won[:, some] / possible[some]
    ).mean(axis=1)
    return parts


def _check_same(first: UserResults, second: UserResults) -> None:
    one, two = first.outcomes, second.outcomes
    differs = {
        "ratings": first.asked["digest"] != second.asked["digest"],
        "targets": first.asked["targets"] != second.asked["targets"],
        "list length": one.list_length != two.list_length,
        "users": not np.array_equal(one.users, two.users),
    }
    found = [name for name, other in differs.items() if other]
    if found:
        raise InputError(
            f"these results are of other {' and '.join(found)}: {first.label} | {second.label}; "
            "measure both with the same data set, seed, targets, list length and users"
        )
    # Of the same ratings, so that only a damaged file differs here.
    if not (
        np.array_equal(one.eligible, two.eligible)
        and np.array_equal(one.asked, two.asked)
        and np.array_equal(one.liked, two.liked)
    ):
        raise InputError("these results are of the same ratings, and disagree about them: damaged")
