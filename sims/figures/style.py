"""How every picture looks: colors, markers, dashes, labels at lines, plain numbers, captions.

The colors are Okabe and Ito's (Color Universal Design, 2008; B. Wong, Nature Methods 8, 441, 2011),
which differ in lightness, too, and stay apart for those who see no difference of red and green;
tests/sims/figures/test_style.py measures how far. Color never stands alone: what differs in color
also differs in marker, dash, hatching or a label beside it.
"""

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from common.errors import InputError
from common.files import write_output

KINDS: Final = ("png", "svg")

BLACK: Final = "#000000"
ORANGE: Final = "#e69f00"
SKY: Final = "#56b4e9"
GREEN: Final = "#009e73"
BLUE: Final = "#0072b2"
VERMILION: Final = "#d55e00"
PURPLE: Final = "#cc79a7"
# Areas and lines that others are compared with, and text that is not the first to be read.
GREY: Final = "#bdbdbd"
MUTED: Final = "#5c5c5c"

# Of series by their place: the first four are the farthest apart without red and green. Yellow is
# too pale for a line on white.
SERIES: Final = (BLUE, VERMILION, SKY, BLACK, ORANGE, PURPLE, GREEN)
MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p")
DASHES: Final = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
# Of heat maps; even in lightness, and made for color-blind eyes (Nuñez, Anderton, Renslow,
# PLoS ONE 13, e0199239, 2018).
COLOR_MAP: Final = "cividis"

FONT: Final = 10.0
SMALL: Final = 9.0
# Letters of a caption that fit into an inch.
LETTERS: Final = 13.5
# matplotlib types its own settings by a list of all their names.
_SETTINGS: Final[Any] = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "figure.titlesize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.8,
    "errorbar.capsize": 2.5,
    # The same numbers give the same file.
    "svg.hashsalt": "vicinal",
}


@dataclass(frozen=True)
class Look:
    """A series' color, marker and dash."""

    color: str
    marker: str
    dash: Any


def look(place: int) -> Look:
    """Of the series at a place: no two of the first 70 have both color and marker in common."""
    return Look(
        SERIES[place % len(SERIES)],
        MARKERS[place % len(MARKERS)],
        DASHES[place % len(DASHES)],
    )


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with this project's sizes; what others set for their own pictures stays as it is."""
    with mpl.rc_context(_SETTINGS):
        yield


def canvas(
    rows: int, columns: int, size: tuple[float, float], *, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of `size` inches and its panels, row by row."""
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    return figure, list(panels.ravel())


def headed(figure: Figure, title: str, caption: str) -> None:
    """Title above, at the left; below, what is drawn and of how many, in lines that fit."""
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    width = int(LETTERS * float(figure.get_size_inches()[0]))
    lines = [line for part in caption.splitlines() for line in textwrap.wrap(part, width)]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, color=MUTED)


def plain(value: float, _place: int | None = None) -> str:
    """A tick's label without powers: 0.1, 20, 10,000.

    >>> plain(0.1), plain(20.0), plain(10000.0)
    ('0.1', '20', '10,000')
    """
    if value == 0:
        return "0"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def plain_ticks(axis: Axis, *, at: Sequence[float] | None = None) -> None:
    """Numbers without powers of ten; on a logarithmic axis, steps of 1, 2, 5, or `at` alone."""
    if at is not None:
        axis.set_major_locator(FixedLocator(list(at)))
        axis.set_minor_locator(NullLocator())
    elif axis.get_scale() == "log":
        low, high = sorted(axis.get_view_interval())
        wide = np.log10(high / low) > 3
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=30))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(plain))


@dataclass(frozen=True)
class End:
    """The last point of a line, in data, and what is written beside it."""

    x: float
    y: float
    text: str
    color: str


def label_lines(axes: Axes, ends: Sequence[End]) -> None:
    """Name lines at the right of a panel, none over another; call it once limits are set."""
    size = axes.figure.get_size_inches()  # type: ignore[union-attr]
    rows = axes.get_subplotspec().get_gridspec().nrows  # type: ignore[union-attr]
    # Panels lose about a third of the height to title, axis and caption.
    gap = 1.25 * SMALL / 72 / (0.66 * float(size[1]) / rows)
    place = axes.transData + axes.transAxes.inverted()
    points = [place.transform((end.x, end.y)) for end in ends]
    heights = spread([float(point[1]) for point in points], gap, low=0.0, high=1.0)
    for end, point, height in zip(ends, points, heights, strict=True):
        axes.annotate(
            end.text,
            xy=(float(point[0]), float(point[1])),
            xytext=(1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=readable(end.color),
            fontsize=SMALL,
            va="center",
            arrowprops={"arrowstyle": "-", "color": end.color, "lw": 0.6, "shrinkA": 1},
        )


def spread(
    wanted: Sequence[float], gap: float, *, low: float = -np.inf, high: float = np.inf
) -> list[float]:
    """Positions at least `gap` apart, in the order of the wanted ones and near them.

    Those that would touch are moved apart around their common mean, and all between low and high
    as long as there is room.

    >>> spread([0.0, 0.0, 5.0], 1.0)
    [-0.5, 0.5, 5.0]
    >>> spread([0.0, 0.0, 5.0], 1.0, low=0.0)
    [0.0, 1.0, 5.0]
    """
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    groups: list[list[int]] = []
    centers: list[float] = []
    for place in order:
        groups.append([place])
        centers.append(wanted[place])
        while len(groups) > 1 and centers[-1] - centers[-2] < gap * (
            len(groups[-1]) + len(groups[-2])
        ) / 2 * (1 - 1e-9):
            last = groups.pop()
            groups[-1] += last
            centers.pop()
            centers[-1] = float(np.mean([wanted[one] for one in groups[-1]]))
    found = [0.0] * len(wanted)
    rank = 0
    for group, center in zip(groups, centers, strict=True):
        for inside, place in enumerate(group):
            height = center + gap * (inside - (len(group) - 1) / 2)
            height = min(height, high - gap * (len(wanted) - 1 - rank))
            found[place] = max(height, low + gap * rank)
            rank += 1
    return found


def readable(color: str) -> str:
    """A color for text on white: the pale ones darkened."""
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    if bright <= 0.5:
        return color
    return "#" + "".join(f"{round(255 * 0.62 * part):02x}" for part in (red, green, blue))


def save(figure: Figure, path: Path) -> None:
    """Write a figure. Raises InputError for another kind of file, and OSError."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise InputError(f"{path}: name a file that ends in .{' or .'.join(KINDS)}")
    write_output(path, _drawn(figure, kind))


def as_svg(figure: Figure) -> bytes:
    """A picture that can be put into a page."""
    return _drawn(figure, "svg")


def as_png(figure: Figure) -> bytes:
    """The same in pixels."""
    return _drawn(figure, "png")


def _drawn(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with drawing(), warnings.catch_warnings():
        # Of a letter that the font lacks a box is drawn.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()
