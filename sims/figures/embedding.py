"""The paper's Figure 1: where users lie in the embedding, fakes marked, by t-SNE.

Shapes: U real users, F fakes, d embedding width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from common.errors import InputError
from server.model_store import ModelStore
from sims.evaluation.experiment import FILE_PREFIX, NO_ATTACK, Experiment, prepare
from sims.figures.outcomes import choose, choose_attack, measured_cells, single
from sims.figures.style import SKY, VERMILION, canvas, drawing, headed
from sims.figures.tsne import tsne
from sims.grid.results import CellResult
from sims.progress import Report

# Exact t-SNE takes time and memory by the square of the points; fakes are always all drawn.
MAX_REAL_USERS: Final = 1500
PERPLEXITY: Final = 30.0


def embeddings_figure(
    results: Sequence[CellResult],
    *,
    dataset: str | None,
    model: str | None,
    attack: str | None,
    seed: int | None,
    store: Path,
    report: Report,
) -> Figure:
    """Train what a cell was measured on, or take it from the store, and draw its users.

    Raises InputError and OSError.
    """
    cell = _chosen(results, dataset=dataset, model=model, attack=attack, seed=seed)
    prepared = prepare(experiment_of(cell))
    with ModelStore(store) as opened:
        recommender = prepared.train(opened, progress=report)
    users = recommender.user_embeddings()
    report("lay out", 0, 1)
    title = f"{cell.dataset} · {cell.model}, undefended · attack {cell.attack_label}"
    figure = laid_out(users, prepared.user_count, title=title, seed=cell.seed)
    report("lay out", 1, 1)
    return figure


def laid_out(users: NDArray[np.float32], real: int, *, title: str, seed: int) -> Figure:
    """Embeddings [U + F, d], real users first, in the plane; of many real users a sample.

    Raises InputError for too few users to lay out.
    """
    drawn, fakes = min(real, MAX_REAL_USERS), len(users) - real
    chosen = np.sort(np.random.default_rng(seed).choice(real, drawn, replace=False))
    layout = tsne(np.vstack([users[:real][chosen], users[real:]]), perplexity=PERPLEXITY)
    caption = (
        f"t-SNE of user embeddings, perplexity {PERPLEXITY:g}; axes have no unit.\n"
        f"n = {drawn:,} of {real:,} users and all {fakes} fakes; seed {seed}."
    )
    return points(layout, drawn, title=title, caption=caption)


def experiment_of(cell: CellResult) -> Experiment:
    """What a cell was measured on. Raises InputError where its file does not say."""
    if cell.attack == NO_ATTACK:
        raise InputError("without an attack there are no fakes to mark: choose another --attack")
    if cell.attack_options is None and not cell.attack.startswith(FILE_PREFIX):
        raise InputError(
            f"results of format {cell.format} do not keep the options of {cell.attack}, so that "
            "its fakes cannot be made again: run the grid again in another --folder"
        )
    attack = cell.attack
    if cell.attack_digest and not attack.endswith(f"#{cell.attack_digest}"):
        # Another content of the file is refused.
        attack = f"{attack}#{cell.attack_digest}"
    return Experiment(
        dataset=cell.dataset,
        model=cell.model,
        attack=attack,
        seed=cell.seed,
        targets=tuple(cell.targets),
        attack_size=cell.attack_size,
        list_length=cell.list_length,
        attack_options=cell.attack_options or {},
    )


def _chosen(
    results: Sequence[CellResult],
    *,
    dataset: str | None,
    model: str | None,
    attack: str | None,
    seed: int | None,
) -> CellResult:
    """One of the cells with the wanted experiment: all of them have the same fakes."""
    cells = measured_cells(results, dataset=dataset, model=model)
    attack = choose_attack(attack, (one.attack_label for one in cells))
    cells = [one for one in cells if one.attack_label == attack]
    seed = choose("seed", seed, (one.seed for one in cells))
    cells = [one for one in cells if one.seed == seed]
    single(cells, "attack_size", "targets")
    return cells[0]


def points(layout: NDArray[np.float64], real: int, *, title: str, caption: str) -> Figure:
    """Points [U + F, 2], real users first."""
    with drawing():
        figure, (axes,) = canvas(1, 1, (6.6, 6.4))
        axes.scatter(
            layout[:real, 0], layout[:real, 1], s=10, color=SKY, linewidths=0, label="users"
        )
        axes.scatter(
            layout[real:, 0],
            layout[real:, 1],
            s=42,
            color=VERMILION,
            marker="X",
            linewidths=0.6,
            edgecolors="black",
            label="fakes",
        )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
        axes.set_aspect("equal", adjustable="datalim")
        figure.legend(loc="outside right upper")
        headed(figure, title, caption)
    return figure
