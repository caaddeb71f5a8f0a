"""Hit ratio and accuracy against k, α, or the share of fakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.errors import InputError
from sims.evaluation.defenses import RVD
from sims.figures.outcomes import METRICS, Metric, Spread, choose, single, users_of
from sims.figures.style import (
    MUTED,
    End,
    Look,
    canvas,
    drawing,
    headed,
    label_lines,
    look,
    plain_ticks,
)
from sims.grid.results import CellResult

HEADINGS: Final[dict[Metric, str]] = {
    "hit_ratio": "hit ratio of target items @{} (lower is better)",
    "accuracy": "accuracy @{} (higher is better)",
}
REFERENCES: Final = {
    "not attacked": ("clean", Look(MUTED, "", (0, (5, 2)))),
    "popularity": ("popularity", Look(MUTED, "", (0, (1, 1.5)))),
}


@dataclass(frozen=True)
class Swept:
    """What is on the horizontal axis, and the setting that stays as it is."""

    field: Literal["k", "unrated_weight", "attack_size"]
    name: str
    fixed: Literal["k", "unrated_weight"]
    fixed_name: str


SWEPT: Final = {
    "k-ablation": Swept("k", "k, neighbors", "unrated_weight", "α"),
    "alpha-ablation": Swept("unrated_weight", "α, unrated weight", "k", "k"),
    "attack-sizes": Swept("attack_size", "fakes as a share of users", "k", "k"),
}


def ablation(
    results: Sequence[CellResult],
    swept: Swept,
    *,
    dataset: str | None,
    model: str | None,
    preset: str | None,
) -> Figure:
    """A line an attack, of preset `preset` with rvd alone. Raises InputError."""
    cells = _chosen(results, swept, dataset=dataset, model=model, preset=preset)
    positions = sorted({float(getattr(one, swept.field)) for one in cells})
    if len(positions) < 2:
        raise InputError(f"the results hold one value of {swept.name}: nothing to draw")
    first = cells[0]
    fixed = sorted({getattr(one, swept.fixed) for one in cells})
    _refuse_two_dimensions(cells, swept)
    with drawing():
        figure, panels = canvas(1, 2, (10.5, 4.6))
        for axes, metric in zip(panels, METRICS, strict=True):
            _panel(axes, cells, swept, positions, metric)
            axes.set_title(HEADINGS[metric].format(first.list_length), loc="left")
        stays = f", {swept.fixed_name} = {fixed[0]:g}" if len(fixed) == 1 else ""
        seeds = sorted({one.seed for one in cells})
        over = f"seed {seeds[0]}"
        if len(seeds) > 1:
            over = (
                f"mean over {len(seeds)} seeds ({', '.join(map(str, seeds))}), bars: ± their "
                "standard deviation"
            )
        headed(
            figure,
            f"{first.dataset} · {first.model} · rvd, preset {first.preset}{stays}",
            f"n = {users_of(cells)}; K = {first.list_length}; {over}.",
        )
    return figure


def _chosen(
    results: Sequence[CellResult],
    swept: Swept,
    *,
    dataset: str | None,
    model: str | None,
    preset: str | None,
) -> list[CellResult]:
    cells = [one for one in results if not one.error and one.defense == RVD]
    if not cells:
        raise InputError(f"no measured cell with defense {RVD} among the results")
    for name, wanted in (("dataset", dataset), ("model", model), ("preset", preset)):
        value = choose(name, wanted, (getattr(one, name) for one in cells))
        cells = [one for one in cells if getattr(one, name) == value]
    alike = ["list_length", "attack_size", "steps", "neighbors_by", "assumed_fakes"]
    single(cells, *(name for name in alike if name != swept.field))
    return cells


def _refuse_two_dimensions(cells: Sequence[CellResult], swept: Swept) -> None:
    """Raises InputError where an attack and a position have several values of the other setting."""
    seen: dict[tuple[str, float], set[float]] = {}
    for one in cells:
        key = _line(one, swept), float(getattr(one, swept.field))
        seen.setdefault(key, set()).add(getattr(one, swept.fixed))
    several = next((values for values in seen.values() if len(values) > 1), None)
    if several is not None:
        shown = ", ".join(f"{one:g}" for one in sorted(several))
        raise InputError(
            f"the results mix {swept.fixed_name} = {shown} at one {swept.name}: draw those of one "
            "configuration's folder"
        )


def _panel(
    axes: Axes,
    cells: Sequence[CellResult],
    swept: Swept,
    positions: Sequence[float],
    metric: Metric,
) -> None:
    lines: list[tuple[list[float], list[Spread], str, Look]] = []
    attacks = sorted({_line(one, swept) for one in cells})
    for number, attack in enumerate(attacks):
        here = [one for one in cells if _line(one, swept) == attack]
        points = {}
        for at in positions:
            # Once a seed, also where several k were capped at the users there are.
            by_seed = {
                one.seed: getattr(one, metric)["defended"] for one in here if at == _at(one, swept)
            }
            if by_seed:
                points[at] = Spread.of(list(by_seed.values()))
        lines.append((list(points), list(points.values()), attack, look(number)))
    if swept.field == "attack_size":
        _mark_assumed(axes, cells)
    references = {
        label: (Spread.of([getattr(one, metric)[condition] for one in cells]).mean, style)
        for label, (condition, style) in REFERENCES.items()
        # What popularity ranking shows of targets grows with the fakes: that is no level.
        if (swept.field, metric, label) != ("attack_size", "hit_ratio", "popularity")
    }
    _scale(axes, positions, swept)
    top = max([one.mean + one.bar for _, ys, _, _ in lines for one in ys])
    top = max(1.06 * top, *(1.06 * level for level, _ in references.values()), 0.05)
    # Whole markers at 0, too, and no lines of nothing but 0 blown up.
    axes.set_ylim(-0.03 * top, top)
    plain_ticks(axes.yaxis)
    for xs, ys, _, style in lines:
        bars = [one.bar for one in ys]
        axes.errorbar(
            xs,
            [one.mean for one in ys],
            yerr=bars if any(bars) else None,
            color=style.color,
            marker=style.marker,
            linestyle=style.dash,
            markersize=5.5,
            linewidth=1.5,
            elinewidth=0.9,
        )
    for level, style in references.values():
        axes.axhline(level, color=style.color, linestyle=style.dash, linewidth=1.3)
    right = axes.get_xlim()[1]
    ends = [End(xs[-1], ys[-1].mean, attack, style.color) for xs, ys, attack, style in lines]
    ends += [End(right, level, label, style.color) for label, (level, style) in references.items()]
    label_lines(axes, ends)


def _line(one: CellResult, swept: Swept) -> str:
    return one.attack if swept.field == "attack_size" else one.attack_label


def _mark_assumed(axes: Axes, cells: Sequence[CellResult]) -> None:
    """Up to here hit ratios are bounded: the share of fakes that the preset assumes."""
    for share in sorted({one.assumed_fakes for one in cells if one.assumed_fakes > 0}):
        axes.axvline(share, color=MUTED, linewidth=0.9, alpha=0.6)
        axes.annotate(
            "assumed",
            (share, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -10),
            textcoords="offset points",
            color=MUTED,
            fontsize=8,
        )


def _at(one: CellResult, swept: Swept) -> float:
    return float(getattr(one, swept.field))


def _scale(axes: Axes, positions: Sequence[float], swept: Swept) -> None:
    """A logarithmic axis with a tick a value; one with 0 is linear up to the least value above."""
    least = min(at for at in positions if at > 0)
    if positions[0] == 0:
        axes.set_xscale("symlog", linthresh=least, linscale=0.5)
        axes.set_xlim(-0.3 * least, 1.15 * positions[-1])
        axes.set_xlabel(f"{swept.name} (log scale, linear below {least:g})")
    else:
        axes.set_xscale("log")
        margin = (positions[-1] / positions[0]) ** 0.06
        axes.set_xlim(positions[0] / margin, positions[-1] * margin)
        axes.set_xlabel(f"{swept.name} (log scale)")
    plain_ticks(axes.xaxis, at=_apart(positions, axes))


def _apart(positions: Sequence[float], axes: Axes) -> list[float]:
    """Those whose labels do not touch: a twentieth of the axis apart."""
    place = axes.transData + axes.transAxes.inverted()
    found: list[float] = []
    last = -np.inf
    for at in positions:
        across = float(place.transform((at, 0))[0])
        if across - last > 0.055:
            found.append(at)
            last = across
    return found
