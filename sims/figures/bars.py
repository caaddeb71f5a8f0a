"""Bars of hit ratio and accuracy: without attack, undefended, under every defense."""

import json
import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.errors import InputError
from sims.evaluation.defenses import RVD
from sims.evaluation.experiment import Experiment
from sims.figures.outcomes import METRICS, REFERENCES, UNDEFENDED, Metric, Outcomes, Spread
from sims.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    SKY,
    SMALL,
    VERMILION,
    canvas,
    drawing,
    headed,
    plain_ticks,
)

MAX_RESULTS_BYTES: Final = 1 << 20
# Rows of a picture by the conditions of `vicinal demo`, in the order of the story.
DEMO_ROWS: Final = {
    "clean": "not attacked",
    "undefended": UNDEFENDED,
    "defended_vicinal": "rvd (vicinal)",
    "popularity": "popularity ranking",
    "userknn": "userknn",
    "ease": "ease",
}
HEADINGS: Final[dict[Metric, str]] = {
    "hit_ratio": "hit ratio of target items (lower is better)",
    "accuracy": "accuracy (higher is better)",
}


def before_and_after(outcomes: Outcomes, attack: str | None) -> Figure:
    """Both metrics side by side under one attack, a bar a row; all rows that there are.

    Raises InputError for an attack that there is not.
    """
    outcomes = outcomes.of_attack(attack)
    rows = in_order(outcomes.rows)
    (attack,) = outcomes.attacks
    with drawing():
        size = (7.3, 1.35 + 0.38 * len(rows) + 0.16 * len(outcomes.caption.splitlines()))
        figure, panels = canvas(1, 2, size, sharey=True)
        for axes, metric in zip(panels, METRICS, strict=True):
            _bars(axes, outcomes, rows, metric, attack)
        panels[0].set_yticks(range(len(rows)), [wrapped(row) for row in rows])
        panels[0].set_ylim(len(rows) - 0.45, -0.55)
        headed(figure, f"{outcomes.title} · attack {attack}", outcomes.caption)
    return figure


def _bars(axes: Axes, outcomes: Outcomes, rows: list[str], metric: Metric, attack: str) -> None:
    found = {row: outcomes.values.get((metric, row, attack)) for row in rows}
    top = max((one.mean + one.bar for one in found.values() if one is not None), default=0.0)
    top = max(top, 0.05)
    for place, (row, one) in enumerate(found.items()):
        if one is None:
            axes.text(0.02 * top, place, "no number", va="center", fontsize=SMALL)
            continue
        several = not math.isnan(one.deviation)
        color, hatch = family(row)
        axes.barh(place, one.mean, height=0.68, color=color, hatch=hatch, edgecolor="white", lw=0)
        if one.bar:
            axes.errorbar(one.mean, place, xerr=one.bar, color="black", lw=1)
        shown = f"{one.mean:.3f}" + (f" ± {one.deviation:.3f}" if several else "")
        at = one.mean + one.bar + 0.02 * top
        axes.text(at, place, shown, va="center", fontsize=SMALL)
    # Room for the numbers behind the bars.
    axes.set_xlim(0, 1.55 * top)
    ticks = [tick for tick in np.linspace(0, 1, 11) if tick <= 1.05 * top]
    if len(ticks) > 6:
        ticks = ticks[::2]
    plain_ticks(axes.xaxis, at=ticks if len(ticks) > 1 else [0, 0.05])
    axes.set_xlabel(HEADINGS[metric])
    axes.tick_params(axis="y", length=0)


def family(row: str) -> tuple[str, str | None]:
    """Color and hatching: references grey, undefended red, robust trainings orange, rvd blue."""
    if row in REFERENCES:
        return GREY, None
    if row == UNDEFENDED:
        return VERMILION, "///"
    if RVD not in row.partition("(")[0]:
        return ORANGE, "..."
    return (BLUE, None) if "(vicinal" in row else (SKY, None)


def in_order(rows: list[str]) -> list[str]:
    """Not attacked, undefended, defenses by their training, and popularity last."""
    first = [row for row in ("not attacked", UNDEFENDED) if row in rows]
    last = [row for row in rows if row == "popularity ranking"]
    defenses = [row for row in rows if row not in (*first, *last)]
    return [*first, *sorted(defenses, key=lambda row: (training_of(row), "+" in row, row)), *last]


def training_of(row: str) -> str:
    """`rmf` of `rmf+rvd (paper, …)`; plain training has no name."""
    first = row.partition(" (")[0].partition("+")[0]
    return "" if first in (UNDEFENDED, RVD) else first


def wrapped(row: str) -> str:
    """`rvd (paper, k = 12, α = 0)` in two lines; `none` says what it is.

    >>> wrapped("rvd (paper, k = 12, α = 0)").splitlines()
    ['rvd, preset paper', 'k = 12, α = 0']
    """
    if row == UNDEFENDED:
        return "undefended"
    name, bracket, inside = row.removesuffix(")").partition(" (")
    if not bracket:
        return row
    preset, _, settings = inside.partition(", ")
    return f"{name}, preset {preset}" + (f"\n{settings}" if settings else "")


def demo_outcomes(results: dict[str, Any]) -> Outcomes:
    """Of `vicinal demo`, by what its results.json holds."""
    values = {
        (metric, row, results["attack"]): Spread(results[metric][condition])
        for metric in METRICS
        for condition, row in DEMO_ROWS.items()
        if condition in results[metric]
    }
    return Outcomes(
        results["dataset"],
        results["model"],
        results.get("list_length", Experiment().list_length),
        f"{results['users']:,} users, {results['split']} split",
        (results["seed"],),
        values,
    )


def read_demo(path: Path) -> Outcomes:
    """Of the folder of a demo, or its results.json. Raises InputError for what is neither."""
    path = path / "results.json" if path.is_dir() else path
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_RESULTS_BYTES + 1)
        if len(data) > MAX_RESULTS_BYTES:
            raise ValueError
        return demo_outcomes(json.loads(data))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(
            f"{path}: no results of `vicinal demo`; name the folder it wrote"
        ) from None
