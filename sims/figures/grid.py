"""Pictures of a grid's results: bars before and after, and ablations of k and α."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from common.errors import InputError
from sims.figures.bars import before_and_after, save
from sims.grid.results import CellResult

# Told apart in print as well: a marker of its own for each line.
MARKERS: Final = "osD^vP*X<>"
REFERENCE_COLORS: Final = {"not attacked": "#9a9a9a", "popularity ranking": "#222222"}


def select(results: Sequence[CellResult], **wanted: str | int | None) -> list[CellResult]:
    """The measured cells that have what is wanted; None wants the only one that there is.

    Raises InputError when there is none, or when more than one is left to choose from.
    """
    found = [one for one in results if not one.error]
    for name, value in wanted.items():
        there = sorted({getattr(one, name) for one in found})
        if value is None and len(there) > 1:
            raise InputError(
                f"the results hold several: choose one with --{name} {' | '.join(map(str, there))}"
            )
        if value is not None and value not in there:
            raise InputError(
                f"no results with {name} {value}: there are {', '.join(map(str, there)) or 'none'}"
            )
        if value is not None:
            found = [one for one in found if getattr(one, name) == value]
    if not found:
        raise InputError("no measured cell among the results")
    return found


def draw_before_and_after(
    results: Sequence[CellResult],
    path: Path,
    *,
    dataset: str | None,
    model: str | None,
    attack: str | None,
) -> None:
    """Bars, means over seeds. Raises InputError and OSError."""
    cells = select(results, dataset=dataset, model=model, attack=attack, defense="rvd")
    first = cells[0]
    for preset in sorted({one.preset for one in cells}):
        if len({(one.k, one.unrated_weight) for one in cells if one.preset == preset}) > 1:
            raise InputError(f"preset {preset} was run with several k or α: draw its ablation")
    parts: list[dict[str, float]] = []
    for metric in ("hit_ratio", "accuracy"):
        values = {
            name: _mean(cells, metric, name) for name in ("clean", "undefended", "popularity")
        }
        for preset in ("paper", "vicinal"):
            ours = [one for one in cells if one.preset == preset]
            if ours:
                values[f"defended_{preset}"] = _mean(ours, metric, "defended")
        parts.append(values)
    before_and_after(
        *parts,
        title=f"{first.dataset} · {first.model} · attack {first.attack} · {_seeds(cells)}",
        list_length=first.list_length,
        path=path,
    )


def draw_k_ablation(
    results: Sequence[CellResult],
    path: Path,
    *,
    dataset: str | None,
    model: str | None,
    preset: str | None,
) -> None:
    """Hit ratio and accuracy against k, a line an attack. Raises InputError and OSError."""
    cells = select(results, dataset=dataset, model=model, defense="rvd", preset=preset)
    _lines(cells, path, lambda one: float(one.k), "k, neighbors", "log")


def draw_alpha_ablation(
    results: Sequence[CellResult],
    path: Path,
    *,
    dataset: str | None,
    model: str | None,
    preset: str | None,
) -> None:
    """Hit ratio and accuracy against α, a line an attack. Raises InputError and OSError."""
    cells = select(results, dataset=dataset, model=model, defense="rvd", preset=preset)
    _lines(cells, path, lambda one: one.unrated_weight, "α, unrated weight", "symlog")


def _lines(
    cells: Sequence[CellResult],
    path: Path,
    position: Callable[[CellResult], float],
    name: str,
    scale: str,
) -> None:
    positions = sorted({position(one) for one in cells})
    if len(positions) < 2:
        raise InputError(f"the results hold one value of {name}: nothing to draw")
    first = cells[0]
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    axes = figure.subplots(1, 2)
    panels = (
        ("hit_ratio", "hit ratio of target items", "lower"),
        ("accuracy", "accuracy", "higher"),
    )
    for axis, (metric, heading, better) in zip(axes, panels, strict=True):
        for number, attack in enumerate(sorted({one.attack for one in cells})):
            here = [one for one in cells if one.attack == attack]
            points = [
                (at, _mean([one for one in here if position(one) == at], metric, "defended"))
                for at in positions
                if any(position(one) == at for one in here)
            ]
            marker = MARKERS[number % len(MARKERS)]
            axis.plot(*zip(*points, strict=True), marker=marker, markersize=5, label=attack)
        references = {"not attacked": "clean", "popularity ranking": "popularity"}
        for label, condition in references.items():
            color = REFERENCE_COLORS[label]
            level = _mean(cells, metric, condition)
            axis.axhline(level, color=color, linestyle="--", linewidth=1.2, label=label)
        if scale == "symlog":
            least = min(at for at in positions if at > 0)
            axis.set_xscale("symlog", linthresh=least, linscale=0.5)
            axis.set_xlim(-0.3 * least if positions[0] == 0 else least / 1.3, 1.3 * positions[-1])
        else:
            axis.set_xscale(scale)
        axis.set_xticks(positions, [f"{at:g}" for at in positions])
        axis.minorticks_off()
        # Whole markers at 0, too, and no lines of nothing but 0 blown up.
        top = max(1.06 * axis.get_ylim()[1], 0.05)
        axis.set_ylim(-0.03 * top, top)
        axis.set_xlabel(name)
        axis.set_title(f"{heading} @{first.list_length} ({better} is better)", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    title = f"{first.dataset} · {first.model} · defense rvd ({first.preset}) · {_seeds(cells)}"
    figure.suptitle(title, fontsize=11)
    save(figure, path)


def _mean(cells: Sequence[CellResult], metric: str, condition: str) -> float:
    return statistics.fmean(getattr(one, metric)[condition] for one in cells)


def _seeds(cells: Sequence[CellResult]) -> str:
    seeds = sorted({one.seed for one in cells})
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
