"""What holds over all cells of a grid, and where it does not.

A cell here is a data set, model, attack and defense, its numbers the means over seeds.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from common.vicinal.book import Release
from common.vicinal.settings import Space
from sims.grid import paper_tables
from sims.grid.results import OVER_CLEAN, CellResult

# What a defended hit ratio may exceed the paper's by.
OVER_PAPER: Final = 0.10
BITES: Final = 0.9
# What a group may see of targets when an attack aims at it.
INSIDE: Final = 0.10


@dataclass(frozen=True)
class Means:
    """One cell, averaged over its seeds; by condition.

    inside  defended hit ratio among the users whom the attack aims at; None where it aims at all
    best    the best baseline by accuracy, and its accuracy; None where none was measured
    half    half the 95 % interval over users of the defended accuracy, of one seed
    """

    dataset: str
    model: str
    attack: str
    defense: str
    preset: str
    neighbors_by: Space
    assumed_fakes: float
    release: Release
    hit_ratio: dict[str, float]
    accuracy: dict[str, float]
    inside: float | None
    best: tuple[str, float] | None
    half: float

    @property
    def robust(self) -> bool:
        """Whether targets are hardly more visible than without an attack."""
        return self.hit_ratio["defended"] <= self.hit_ratio["clean"] + OVER_CLEAN

    @property
    def accurate(self) -> bool:
        """Whether the defense costs no accuracy."""
        return self.accuracy["defended"] >= self.accuracy["undefended"]


@dataclass(frozen=True)
class Claim:
    """A sentence, the cells that it speaks of, and those that it does not hold in."""

    sentence: str
    cells: int
    misses: tuple[str, ...]


def means_of(results: Sequence[CellResult]) -> list[Means]:
    """Of all seeds that were measured, in the order of the results."""
    groups: dict[tuple[str, ...], list[CellResult]] = {}
    for one in results:
        if not one.error:
            key = (one.dataset, one.model, one.sized_attack, one.defense, one.preset, one.label)
            groups.setdefault(key, []).append(one)
    return [_mean(group) for group in groups.values()]


def _mean(group: Sequence[CellResult]) -> Means:
    first = group[0]
    return Means(
        dataset=first.dataset,
        model=first.model,
        attack=first.sized_attack,
        defense=first.defense,
        preset=first.preset,
        neighbors_by=first.neighbors_by,
        assumed_fakes=first.assumed_fakes,
        release=first.release,
        hit_ratio={
            name: statistics.fmean(one.hit_ratio[name] for one in group) for name in first.hit_ratio
        },
        accuracy={
            name: statistics.fmean(one.accuracy[name] for one in group) for name in first.accuracy
        },
        inside=_of_seeds(one.hit_ratio_inside.get("defended") for one in group),
        best=_best(group),
        half=_of_seeds(_half(one) for one in group) or 0.0,
    )


def _of_seeds(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


def _best(group: Sequence[CellResult]) -> tuple[str, float] | None:
    """The most accurate baseline that was measured with every seed."""
    found = {}
    for name in group[0].baselines:
        values = [one.baselines.get(name, {}).get("accuracy") for one in group]
        numbers = [value for value in values if isinstance(value, float)]
        if len(numbers) == len(group):
            found[name] = statistics.fmean(numbers)
    return max(found.items(), key=lambda item: item[1]) if found else None


def _half(one: CellResult) -> float | None:
    bounds = one.intervals.get("accuracy", {}).get("defended")
    return None if bounds is None else (bounds[1] - bounds[0]) / 2


def claims(results: Sequence[CellResult]) -> list[Claim]:
    """About each kind of defended cell; nothing about what was not measured."""
    cells = means_of(results)
    found = [
        _claim(
            f"undefended: hit ratio at least {BITES:g}",
            [one for one in cells if one.defense == "none" and one.attack != "none"],
            lambda one: one.hit_ratio["undefended"] >= BITES,
            lambda one: f"{one.hit_ratio['undefended']:.3f}",
        )
    ]
    kinds: dict[tuple[str, str], list[Means]] = {}
    for one in cells:
        if one.defense != "none":
            kinds.setdefault((one.defense, one.preset), []).append(one)
    for defense, preset in sorted(kinds, key=lambda kind: kind[0] != "rvd"):
        mine = kinds[defense, preset]
        # Said where several are asked for.
        asked = dict.fromkeys((one.neighbors_by, one.assumed_fakes) for one in mine)
        releases = dict.fromkeys(one.release for one in mine)
        for (space, share), release in product(asked, releases):
            told = f", by {space}, φ = {100 * share:g} %" if len(asked) > 1 else ""
            told += f", {release}" if len(releases) > 1 else ""
            of = space, share, release
            found += _claims_of(
                f"{defense} ({preset}{told})" if preset else defense,
                [one for one in mine if (one.neighbors_by, one.assumed_fakes, one.release) == of],
            )
    return [claim for claim in found if claim.cells]


def _claims_of(name: str, cells: Sequence[Means]) -> Iterator[Claim]:
    yield _claim(
        f"{name}: hit ratio at most the clean model's + {OVER_CLEAN:g}",
        cells,
        lambda one: one.robust,
        lambda one: f"{one.hit_ratio['defended']:.3f}, clean {one.hit_ratio['clean']:.3f}",
    )
    yield _claim(
        f"{name}: accuracy at least the undefended model's",
        cells,
        lambda one: one.accurate,
        _accuracies("undefended"),
    )
    yield _claim(
        f"{name}: accuracy above popularity ranking's",
        cells,
        lambda one: one.accuracy["defended"] > one.accuracy["popularity"],
        _accuracies("popularity"),
    )
    yield _claim(
        f"{name}: accuracy at least the best baseline's, less half an interval",
        [one for one in cells if one.best is not None],
        lambda one: one.best is not None and one.accuracy["defended"] >= one.best[1] - one.half,
        lambda one: (
            f"{one.accuracy['defended']:.3f} ± {one.half:.3f}, "
            + " ".join((one.best[0], f"{one.best[1]:.3f}") if one.best else ())
        ),
    )
    yield _claim(
        f"{name}: hit ratio at most {INSIDE:g} among users whom an attack aims at",
        [one for one in cells if one.inside is not None],
        lambda one: one.inside is not None and one.inside <= INSIDE,
        lambda one: f"{one.inside:.3f}",
    )
    yield _claim(
        f"{name}: hit ratio at most the paper's + {OVER_PAPER:g}",
        [one for one in cells if _paper(one) is not None],
        lambda one: one.hit_ratio["defended"] <= (_paper(one) or 0.0) + OVER_PAPER,
        lambda one: f"{one.hit_ratio['defended']:.3f}, paper {_paper(one):.3f}",
    )


def markdown(found: Sequence[Claim]) -> str:
    """A table of the claims, and below it every cell that one about rvd alone does not hold in."""
    lines = ["### In how many cells", "", "| | holds in | of cells |", "|---|---|---|"]
    for claim in found:
        held = claim.cells - len(claim.misses)
        lines.append(f"| {claim.sentence} | {held} ({held / claim.cells:.0%}) | {claim.cells} |")
    for claim in found:
        if claim.misses and claim.sentence.startswith(("undefended", "rvd")):
            lines += ["", f"Not *{claim.sentence}*: {'; '.join(claim.misses)}."]
    return "\n".join(lines) + "\n"


def _paper(cell: Means) -> float | None:
    return paper_tables.hit_ratio(cell.dataset, cell.model, cell.attack, cell.defense)


def _accuracies(condition: str) -> Callable[[Means], str]:
    return lambda one: f"{one.accuracy['defended']:.3f}, {condition} {one.accuracy[condition]:.3f}"


def _claim(
    sentence: str,
    cells: Sequence[Means],
    holds: Callable[[Means], bool],
    shown: Callable[[Means], str],
) -> Claim:
    misses = (
        f"{one.dataset} · {one.model} · {one.attack} ({shown(one)})"
        for one in cells
        if not holds(one)
    )
    return Claim(sentence, len(cells), tuple(misses))
