"""Every defense against every attack, as colors with their numbers."""

import math
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from sims.figures.bars import HEADINGS, in_order, wrapped
from sims.figures.outcomes import METRICS, Metric, Outcomes
from sims.figures.style import COLOR_MAP, GREY, SMALL, canvas, drawing, headed, plain_ticks

COLUMN: Final = 0.66
ROW: Final = 0.42


def heat_map(outcomes: Outcomes) -> Figure:
    """Rows are defenses, columns attacks; hit ratio above accuracy."""
    rows, attacks = in_order(outcomes.rows), outcomes.attacks
    with drawing():
        # Wide enough for the names of rows and for the caption.
        size = (max(7.0, 3.2 + COLUMN * len(attacks)), 2.9 + 2 * ROW * len(rows))
        figure, panels = canvas(2, 1, size)
        for axes, metric in zip(panels, METRICS, strict=True):
            image = _cells(axes, outcomes, rows, attacks, metric)
            bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.02)
            bar.set_label(f"{metric.replace('_', ' ')}@{outcomes.list_length}, linear scale")
            plain_ticks(bar.ax.yaxis)
            axes.set_title(HEADINGS[metric], loc="left")
        headed(
            figure,
            f"{outcomes.title} · defense × attack",
            outcomes.caption,
        )
    return figure


def _cells(
    axes: Axes, outcomes: Outcomes, rows: list[str], attacks: list[str], metric: Metric
) -> AxesImage:
    means = np.full((len(rows), len(attacks)), np.nan)
    for down, row in enumerate(rows):
        for across, attack in enumerate(attacks):
            if (one := outcomes.values.get((metric, row, attack))) is not None:
                means[down, across] = one.mean
    top = 1.0 if metric == "hit_ratio" else max(float(np.nanmax(means)), 0.05)
    colors = mpl.colormaps[COLOR_MAP].with_extremes(bad=GREY)
    image = axes.imshow(means, cmap=colors, vmin=0, vmax=top, aspect="auto")
    for down, row in enumerate(rows):
        for across, attack in enumerate(attacks):
            one = outcomes.values.get((metric, row, attack))
            shown = "–" if one is None else f"{one.mean:.3f}"
            if one is not None and not math.isnan(one.deviation):
                shown += f"\n±{one.deviation:.3f}"
            bright = one is None or one.mean > 0.55 * top
            color = "black" if bright else "white"
            axes.text(across, down, shown, ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(attacks)), [name.replace(" (", "\n(") for name in attacks])
    axes.set_yticks(range(len(rows)), [wrapped(row) for row in rows])
    axes.tick_params(length=0, labelsize=SMALL)
    axes.set_xticks(np.arange(len(attacks) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    return image
