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
from server.recommending.recommender import embeddings
from sims.evaluation.experiment import FILE_PREFIX, NO_ATTACK, Experiment, prepare
from sims.figures.outcomes import choose, choose_attack, single
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
    users = embeddings(recommender.stored, recommender.ratings)
    real, fakes = users[: prepared.user_count], users[prepared.user_count :]
    drawn = min(len(real), MAX_REAL_USERS)
    chosen = np.sort(np.random.default_rng(cell.seed).choice(len(real), drawn, replace=False))
    report("lay out", 0, 1)
    layout = tsne(np.vstack([real[chosen], fakes]), perplexity=PERPLEXITY)
    report("lay out", 1, 1)
    return points(
        layout,
        drawn,
        title=f"{cell.dataset} · {cell.model}, undefended · attack {cell.attack_label}",
        caption=(
            f"t-SNE of user embeddings, perplexity {PERPLEXITY:g}; axes have no unit.\n"
            f"n = {drawn:,} of {len(real):,} users and all {len(fakes)} fakes; seed {cell.seed}."
        ),
    )


def experiment_of(cell: CellResult) -> Experiment:
    """What a cell was measured on. Raises InputError where its file does not say."""
    if cell.attack == NO_ATTACK:
        raise InputError("without an attack there are no fakes to mark: choose another --attack")
    if cell.attack_options is None and not cell.attack.startswith(FILE_PREFIX):
        raise InputError(
            f"results of format {cell.format} do not keep the options of {cell.attack}, so that "
            "its fakes cannot be made again: run the grid again in another --folder"
        )
    return Experiment(
        cell.dataset,
        cell.model,
        cell.attack,
        cell.seed,
        tuple(cell.targets),
        cell.attack_size,
        cell.list_length,
        cell.attack_options or {},
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
    cells = [one for one in results if not one.error]
    if not cells:
        raise InputError("no measured cell among the results")
    dataset = choose("dataset", dataset, (one.dataset for one in cells))
    cells = [one for one in cells if one.dataset == dataset]
    model = choose("model", model, (one.model for one in cells))
    cells = [one for one in cells if one.model == model]
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
