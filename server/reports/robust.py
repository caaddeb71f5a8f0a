"""What lying devices can move: bounds of the plain ratios, and means over shards that are trimmed.

Two ways to lie need two answers.

*Few users each.* A report speaks for the users of its token, once for each answer that was served.
If a share x of the counted users is lied about, in any way, the plain ratio moves by x at the most:
what was observed is r = (1 − x) h + x l, with h the honest users' ratio and l anything in 0–1
(`honest_range`).

*Few tokens, many reports.* Reports are dealt to shards by a keyed hash of the token, so that one
token reaches one shard, however much it reports. The mean of the shards' ratios without the
smallest and largest eighth is moved little by few shards (trimmed means: P. J. Huber, Robust
Statistics, 1981, §3.3; over groups of clients: D. Yin et al., ICML 2018, §4). If ⌈xS⌉ of the S
shards lie in any way, the trimmed mean of the honest ones lies between that of all shards without
the ⌈xS⌉ largest, and without the ⌈xS⌉ smallest (`trimmed_range`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from common.ranking import Counts

# Shares of liars that are spoken of.
LIARS: Final = (0.01, 0.05, 0.10)
# Of the shards, cut off at each end: an eighth holds against a tenth of them.
TRIMMED: Final = 8

Range = tuple[float, float]


@dataclass(frozen=True)
class RobustFigure:
    """One ratio: of all reports; the trimmed mean over `shards` shards; and by share of liars the
    range in which the honest ones' is. None: no shard has anything to say.
    """

    plain: float
    trimmed: float | None
    shards: int
    honest: dict[float, Range]
    trimmed_honest: dict[float, Range]


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean without the smallest and largest eighth of the values, rounded down.

    >>> trimmed_mean([0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 1.0])
    0.1
    """
    cut = len(values) // TRIMMED
    kept = sorted(values)[cut : len(values) - cut]
    return min(max(sum(kept) / len(kept), kept[0]), kept[-1])


def trimmed_range(values: Sequence[float], share: float) -> Range | None:
    """In which the trimmed mean of the honest shards is, whichever ⌈share · S⌉ lie.

    None when none would be left.
    """
    liars, ordered = ceil(share * len(values)), sorted(values)
    if liars >= len(ordered):
        return None
    return trimmed_mean(ordered[: len(ordered) - liars]), trimmed_mean(ordered[liars:])


def honest_range(ratio: float, share: float) -> Range:
    """In which the honest users' ratio is, when a share of the users is lied about.

    >>> honest_range(0.5, 0.5), honest_range(0.2, 0.5)
    ((0.0, 1.0), (0.0, 0.4))
    """
    return max(0.0, (ratio - share) / (1 - share)), min(1.0, ratio / (1 - share))


def robust_figure(
    counts: Counts, shards: Iterable[Counts], ratio: Callable[[Counts], float | None]
) -> RobustFigure | None:
    """A ratio of counts, robustly. None where the counts do not give it."""
    plain = ratio(counts)
    if plain is None:
        return None
    values = [value for value in map(ratio, shards) if value is not None]
    trimmed = {share: trimmed_range(values, share) for share in LIARS} if values else {}
    return RobustFigure(
        plain,
        trimmed_mean(values) if values else None,
        len(values),
        {share: honest_range(plain, share) for share in LIARS},
        {share: found for share, found in trimmed.items() if found is not None},
    )


def hit_ratio(counts: Counts) -> float | None:
    """Mean over the watched items that somebody could be shown."""
    ratios = [h / e for h, e in zip(counts.hits, counts.eligible, strict=True) if e]
    return sum(ratios) / len(ratios) if ratios else None


def accuracy(counts: Counts) -> float | None:
    return counts.accuracy if counts.users else None
