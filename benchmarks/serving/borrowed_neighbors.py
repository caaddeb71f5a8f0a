"""The paper's approximation, measured: `python -m benchmarks.serving.borrowed_neighbors`.

"For each user in the test set, we can find the closest user in the training set and use its
neighbors as an approximation" (paper, Efficiency Analysis, first point). Here every user was
trained on, so the closest other user lends its neighbors. Prints a Markdown section: how many of
a user's own neighbors are among them, and what the defense does with them.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from common.threads import limit_threads
from common.vicinal.settings import preset
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from sims.evaluation.cell import sample
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.evaluation.measuring import Condition, EvaluationSetup, measure_here
from sims.progress import Report, shown

MODELS: Final = ("mf", "autorec")
PRESETS: Final = ("paper", "vicinal")
HEADS: Final = ("model", "preset", "k", "neighbors", "recall", "HR", "accuracy")


def shared_neighbors(
    borrowed: Recommender, exact: Recommender, users: NDArray[np.int64], count: int
) -> float:
    """The share of users' own neighbors, themselves left out, that they were lent."""
    pairs = zip(borrowed.nearest(users, count), exact.nearest(users, count), strict=True)
    return float(np.mean([np.isin(own[1:], lent[1:]).mean() for lent, own in pairs]))


def lines(
    prepared: Prepared,
    users: NDArray[np.int64],
    store: ModelStore,
    progress: Report,
) -> Iterator[str]:
    """The table's lines of one model, as they are measured."""
    model = prepared.experiment.model
    exact = prepared.train(store, search="exact", progress=progress)
    borrowed = prepared.train(store, search="borrowed", progress=progress)
    for name in PRESETS:
        settings = preset(name, model=model)
        count = settings.neighbors
        recall = shared_neighbors(borrowed, exact, users, count)
        rows: list[tuple[str, Recommender, Condition, str]] = [
            ("none: undefended", exact, "undefended", ""),
            ("own, exact", exact, "defended", "1.000"),
            ("borrowed", borrowed, "defended", f"{recall:.3f}"),
        ]
        for label, recommender, condition, share in rows:
            length = prepared.experiment.list_length
            setup = EvaluationSetup(
                {"poisoned": recommender}, prepared.local, settings, prepared.watched, length
            )
            counts = measure_here(setup, [condition], users)[condition].counts
            values = (model, name, str(count), label, share)
            result = f"{counts.hit_ratio:.4f} | {counts.accuracy:.4f}"
            yield f"| {' | '.join(values)} | {result} |"


def main(
    dataset: Annotated[str, typer.Option("--dataset")] = "ml-100k",
    users: Annotated[
        int | None, typer.Option("--users", min=1, help="A sample; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    short: Annotated[bool, typer.Option("--short", help="mf on little synthetic data.")] = False,
) -> None:
    """Attack with mixrand, defend with own and with borrowed neighbors, print a section."""
    limit_threads()
    console = Console(highlight=False, soft_wrap=True)
    if short:
        dataset = "synthetic:300x200"
    console.print("## Neighbors of the nearest other user\n")
    console.print(f"{dataset}, mixrand, seed {seed}, K = 50, {users or 'all'} users.\n")
    console.print(f"| {' | '.join(HEADS)} |\n|---|---|---:|---|{'---:|' * 3}")
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store, shown() as progress:
        for model in MODELS[:1] if short else MODELS:
            prepared = prepare(Experiment(dataset, model, seed=seed))
            asked = sample(prepared, users)
            for text in lines(prepared, asked, store, progress):
                console.print(text)


if __name__ == "__main__":
    typer.run(main)
