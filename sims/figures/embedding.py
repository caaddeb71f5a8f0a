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
from sims.evaluation.experiment import NO_ATTACK, Experiment, prepare
from sims.figures.bars import save
from sims.figures.grid import select
from sims.figures.tsne import tsne
from sims.grid.results import CellResult
from sims.progress import Report

# Exact t-SNE takes time and memory by the square of the points; fakes are always all drawn.
MAX_REAL_USERS: Final = 1500
PERPLEXITY: Final = 30.0


def draw_embeddings(
    results: Sequence[CellResult],
    path: Path,
    *,
    dataset: str | None,
    model: str | None,
    attack: str | None,
    seed: int | None,
    store: Path,
    report: Report,
) -> None:
    """Train what a cell was measured on, or take it from the store, and draw its users.

    Raises InputError and OSError.
    """
    cell = select(results, dataset=dataset, model=model, attack=attack, seed=seed)[0]
    if cell.attack == NO_ATTACK:
        raise InputError("without an attack there are no fakes to mark: choose another --attack")
    prepared = prepare(
        Experiment(
            cell.dataset,
            cell.model,
            cell.attack,
            cell.seed,
            tuple(cell.targets),
            cell.attack_size,
            cell.list_length,
        )
    )
    with ModelStore(store) as opened:
        recommender = prepared.train(opened, progress=report)
    title = f"{cell.dataset} · {cell.model} · attack {cell.attack} · seed {cell.seed}"
    users = recommender.user_embeddings()
    report("lay out", 0, 1)
    figure = laid_out(users, prepared.user_count, title=title, seed=cell.seed)
    report("lay out", 1, 1)
    save(figure, path)


def laid_out(users: NDArray[np.float32], real: int, *, title: str, seed: int = 0) -> Figure:
    """Embeddings [U + F, d], real users first, in the plane; of many real users a sample.

    Raises InputError for too few users to lay out.
    """
    drawn = min(real, MAX_REAL_USERS)
    chosen = np.sort(np.random.default_rng(seed).choice(real, drawn, replace=False))
    layout = tsne(np.vstack([users[:real][chosen], users[real:]]), perplexity=PERPLEXITY)
    return scatter(layout, drawn, title=title)


def scatter(layout: NDArray[np.float64], real: int, *, title: str) -> Figure:
    """Points [U + F, 2], real users first."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    axis = figure.subplots()
    axis.scatter(
        layout[:real, 0],
        layout[:real, 1],
        s=9,
        color="#7aa6c2",
        linewidths=0,
        label=f"users ({real})",
    )
    fakes = len(layout) - real
    axis.scatter(
        layout[real:, 0],
        layout[real:, 1],
        s=26,
        color="#b2182b",
        marker="X",
        linewidths=0.4,
        edgecolors="white",
        label=f"fakes ({fakes})",
    )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_title(f"{title}\nt-SNE of user embeddings, perplexity {PERPLEXITY:g}", fontsize=10)
    axis.legend(loc="upper right", fontsize=8)
    return figure
