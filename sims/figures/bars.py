"""Pictures of results, for files (PNG or SVG by the file's name).

Without pyplot, whose backend is the affair of the program that imports us.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from common.errors import InputError
from common.files import write_file

KINDS: Final = ("png", "svg")

# Conditions in the order of the story, and how a picture names them.
LABELS: Final = {
    "clean": "clean",
    "undefended": "undefended",
    "defended_paper": "defended\n(paper)",
    "defended_vicinal": "defended\n(vicinal)",
    "popularity": "popularity",
}
# Attack in red, defense in green, references in grey; apart in lightness too.
COLORS: Final = {
    "clean": "#9a9a9a",
    "undefended": "#b2182b",
    "defended_paper": "#7fbf7b",
    "defended_vicinal": "#1b7837",
    "popularity": "#c9c9c9",
}


def before_and_after(
    hit_ratio: Mapping[str, float],
    accuracy: Mapping[str, float],
    *,
    title: str,
    list_length: int,
    path: Path,
) -> None:
    """Write `bars`. Raises InputError for a file that is neither PNG nor SVG, and OSError."""
    save(bars(hit_ratio, accuracy, title=title, list_length=list_length), path)


def bars(
    hit_ratio: Mapping[str, float],
    accuracy: Mapping[str, float],
    *,
    title: str,
    list_length: int,
) -> Figure:
    """Hit ratio and accuracy by condition, side by side."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    panels = (
        (f"hit ratio of target items @{list_length} (lower is better)", hit_ratio),
        (f"accuracy @{list_length} (higher is better)", accuracy),
    )
    for axis, (heading, values) in zip(axes, panels, strict=True):
        names = [name for name in LABELS if name in values]
        drawn = axis.bar(
            [LABELS[name] for name in names],
            [values[name] for name in names],
            color=[COLORS[name] for name in names],
        )
        axis.bar_label(drawn, fmt="%.3f", padding=2, fontsize=9)
        axis.set_title(heading, fontsize=10)
        axis.set_ylim(0, max(1.08 * max(values.values()), 0.1))
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="x", labelsize=8, length=0)
    figure.suptitle(title, fontsize=11)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure. Raises InputError for another kind of file, and OSError."""
    kind = path.suffix.lower().removeprefix(".")
    buffer = io.BytesIO()
    if kind not in KINDS:
        raise InputError(f"{path}: name a file that ends in .{' or .'.join(KINDS)}")
    figure.savefig(buffer, format=kind, dpi=150)
    write_file(path, buffer.getvalue())
