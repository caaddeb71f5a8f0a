"""Hit ratio against accuracy: a point for each defense under each attack."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sims.figures.bars import family, in_order, training_of, wrapped
from sims.figures.outcomes import REFERENCES, Outcomes, Spread
from sims.figures.style import BLACK, MARKERS, MUTED, SMALL, canvas, drawing, headed, plain_ticks

SIZE: Final = (8.6, 6.0)
# Of the panel, without its legend: what one letter and one line of a label take.
LETTER: Final = 0.0135
LINE: Final = 0.032
REFERENCE_MARKS: Final = {"not attacked": (MUTED, "*"), "popularity ranking": (BLACK, "P")}


def scatter(outcomes: Outcomes) -> Figure:
    """Colors as in the bars, a marker a training; attacks are named where there is room."""
    rows = in_order(outcomes.rows)
    marks = marks_of(rows)
    with drawing():
        figure, (axes,) = canvas(1, 1, SIZE)
        _limits(axes, outcomes)
        named: list[tuple[str, Spread, Spread]] = []
        for row in rows:
            pairs = _pairs(outcomes, row)
            if pairs:
                _points(axes, row, list(pairs.values()), *marks[row])
                named += [
                    (attack, *pair) for attack, pair in pairs.items() if row not in REFERENCES
                ]
            elif row in REFERENCES:
                _line(axes, outcomes, row)
        _name_attacks(axes, named)
        axes.set_xlabel(f"hit ratio of target items @{outcomes.list_length} (lower is better)")
        axes.set_ylabel(f"accuracy @{outcomes.list_length} (higher is better)")
        plain_ticks(axes.xaxis)
        plain_ticks(axes.yaxis)
        axes.grid(color="#e6e6e6", linewidth=0.8)
        figure.legend(loc="outside right upper", labelspacing=0.7, handlelength=1.6)
        caption = f"Each point is one attack. {outcomes.caption}"
        headed(figure, f"{outcomes.title} · robustness and accuracy of each defense", caption)
    return figure


def marks_of(rows: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Color and marker of each row: a color a kind of defense, a marker a training.

    No two rows have both in common: those of one kind and training, with several k or α, go on
    to the next marker.
    """
    trainings = list(dict.fromkeys(training_of(row) for row in rows if row not in REFERENCES))
    found = dict(REFERENCE_MARKS)
    for row in (row for row in rows if row not in REFERENCES):
        color, place = family(row)[0], trainings.index(training_of(row))
        while (color, MARKERS[place % len(MARKERS)]) in found.values() and place < 2 * len(MARKERS):
            place += 1
        found[row] = color, MARKERS[place % len(MARKERS)]
    return found


def _points(
    axes: Axes, row: str, pairs: Sequence[tuple[Spread, Spread]], color: str, marker: str
) -> None:
    errors = [[pair[at].bar for pair in pairs] for at in (0, 1)]
    axes.errorbar(
        [pair[0].mean for pair in pairs],
        [pair[1].mean for pair in pairs],
        xerr=errors[0] if any(errors[0]) else None,
        yerr=errors[1] if any(errors[1]) else None,
        color=color,
        marker=marker,
        linestyle="",
        markersize=11 if marker == "*" else 7,
        markeredgecolor="black",
        markeredgewidth=0.5,
        elinewidth=0.9,
        label=wrapped(row),
    )


def _line(axes: Axes, outcomes: Outcomes, row: str) -> None:
    """Accuracy alone, where a page prints no hit ratio."""
    found = [
        one.mean
        for (of, name, _), one in outcomes.values.items()
        if (of, name) == ("accuracy", row)
    ]
    if found:
        level = float(np.mean(found))
        axes.axhline(level, color=MUTED, linestyle=(0, (5, 2)), linewidth=1.2)
        right = axes.get_xlim()[1]
        axes.text(right, level, f"{row}, accuracy ", ha="right", va="bottom", fontsize=SMALL)


def _pairs(outcomes: Outcomes, row: str) -> dict[str, tuple[Spread, Spread]]:
    """Hit ratio and accuracy by attack, where there are both."""
    found = {}
    for attack in outcomes.attacks:
        hit = outcomes.values.get(("hit_ratio", row, attack))
        right = outcomes.values.get(("accuracy", row, attack))
        if hit is not None and right is not None:
            found[attack] = hit, right
    return found


def _limits(axes: Axes, outcomes: Outcomes) -> None:
    """Whole markers at 0 and 1; accuracy as far as there is any."""
    most = {
        metric: max(
            one.mean + one.bar for (of, _, _), one in outcomes.values.items() if of == metric
        )
        for metric in ("hit_ratio", "accuracy")
    }
    right, top = max(1.08 * most["hit_ratio"], 0.05), max(1.08 * most["accuracy"], 0.05)
    axes.set_xlim(-0.03 * right, right)
    axes.set_ylim(-0.03 * top, top)


def _name_attacks(axes: Axes, named: Sequence[tuple[str, Spread, Spread]]) -> None:
    """Names beside points, where they cover no point, error bar or other name."""
    place = axes.transData + axes.transAxes.inverted()

    def box_of(x: float, y: float, wide: float, high: float) -> tuple[float, ...]:
        left, low = place.transform((x - wide, y - high))
        right, top = place.transform((x + wide, y + high))
        return left - 0.011, low - 0.014, right + 0.011, top + 0.014

    taken = [
        box
        for _, hit, right in named
        for box in (
            box_of(hit.mean, right.mean, hit.bar, 0),
            box_of(hit.mean, right.mean, 0, right.bar),
        )
    ]
    for name, hit, right in named:
        x, y = place.transform((hit.mean, right.mean))
        wide = LETTER * len(name)
        bars = box_of(hit.mean, right.mean, hit.bar, right.bar)
        for left, middle in (
            (bars[2] + 0.004, y),
            (bars[0] - 0.004 - wide, y),
            (x - wide / 2, bars[3] + LINE / 2),
            (x - wide / 2, bars[1] - LINE / 2),
        ):
            box = (left, middle - LINE / 2, left + wide, middle + LINE / 2)
            inside = box[0] >= 0 and box[2] <= 1 and box[1] >= 0 and box[3] <= 1
            if inside and not any(_touch(box, other) for other in taken):
                place_in = axes.transAxes
                axes.text(
                    left, middle, name, transform=place_in, va="center", fontsize=8, color=MUTED
                )
                taken.append(box)
                break


def _touch(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
