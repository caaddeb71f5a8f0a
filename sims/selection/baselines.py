"""Options of the baselines, chosen on validation items.

`python -m sims.selection.baselines --model ials`

The items are those of sims.selection.presets: one more held out per user, and other targets than
the reported ones, under mixrand. What is not defended is not chosen for its hit ratio: candidates
are ranked by accuracy in lists of 50 and of 10, each relative to popularity ranking, averaged over
data sets and seeds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Annotated, Final, final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from common.names import unknown
from common.ranking import Counts, count_user, top_items
from common.ratings import RatingMatrix
from server.baselines import BASELINES, Scorer
from server.baselines.ease import Ease
from server.baselines.itemknn import ItemKnn
from server.baselines.userknn import UserKnn
from server.training.ranking import Bpr, Ials, LightGcn, Ranking
from server.training.train import TrainingSettings, train
from sims.evaluation.experiment import Prepared
from sims.processes.pools import in_processes
from sims.progress import counter, shown
from sims.selection.presets import MIXRAND, validation

LENGTHS: Final = (50, 10)
Fit = Callable[[RatingMatrix], Scorer]


@final
class _Factors:
    """Ranks by P Qᵀ."""

    def __init__(self, ranking: Ranking, ratings: RatingMatrix) -> None:
        settings = TrainingSettings(model=ranking.method, ranking=ranking)
        trained = train(ratings, settings)
        self._users = trained.user_parameters["user_embedding"]
        self._items = trained.shared_parameters["item_embedding"]

    def scores(self, user: int) -> NDArray[np.float32]:
        return np.asarray(self._items @ self._users[user])


def _userknn() -> Iterator[tuple[str, Fit]]:
    for k in (20, 40, 80, 160):
        yield f"k = {k}", partial(UserKnn, neighbors=k)


def _itemknn() -> Iterator[tuple[str, Fit]]:
    for k in (10, 20, 50, 100, 200, 400):
        yield f"k = {k}", partial(ItemKnn, neighbors=k)


def _ease() -> Iterator[tuple[str, Fit]]:
    for penalty in (20.0, 50.0, 100.0, 200.0, 400.0, 800.0):
        yield f"λ = {penalty:g}", partial(Ease, penalty=penalty)


def _ials() -> Iterator[tuple[str, Fit]]:
    for confidence, penalty in product((1.0, 3.0, 10.0, 30.0), (3.0, 10.0, 30.0, 100.0)):
        ranking = Ials(confidence=confidence, regularization=penalty)
        yield f"α = {confidence:g}, λ = {penalty:g}", partial(_Factors, ranking)


def _bpr() -> Iterator[tuple[str, Fit]]:
    for rate, penalty, epochs in product((0.003, 0.01), (0.003, 0.01, 0.03), (30, 60, 120)):
        ranking = Bpr(learning_rate=rate, regularization=penalty, epochs=epochs)
        yield f"rate {rate:g}, λ = {penalty:g}, {epochs} epochs", partial(_Factors, ranking)


def _lightgcn() -> Iterator[tuple[str, Fit]]:
    for layers, penalty, epochs in product((1, 2, 3), (1e-4, 1e-3, 1e-2), (60, 120)):
        ranking = LightGcn(layers=layers, regularization=penalty, epochs=epochs)
        yield f"{layers} layers, λ = {penalty:g}, {epochs} epochs", partial(_Factors, ranking)


# What is shown of a candidate, and how it is fitted.
CANDIDATES: Final[Mapping[str, Callable[[], Iterator[tuple[str, Fit]]]]] = {
    "userknn": _userknn,
    "itemknn": _itemknn,
    "ease": _ease,
    "ials": _ials,
    "bpr": _bpr,
    "lightgcn": _lightgcn,
}


@dataclass(frozen=True)
class Run:
    """One candidate on one data set and seed: of lists of 50 and of 10, and of popularity's."""

    hit_ratio: float
    accuracy: tuple[float, ...]
    relative: tuple[float, ...]


def run_of(dataset: str, seed: int, model: str, place: int, users: int) -> Run:
    """The candidate at a place of CANDIDATES."""
    prepared = validation(dataset, seed, "mf", MIXRAND)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(prepared.user_count, min(users, prepared.user_count), replace=False)
    _, fit = list(CANDIDATES[model]())[place]
    mine = _counts(fit(prepared.poisoned), prepared, chosen)
    popular = _counts(BASELINES["popularity"](prepared.poisoned), prepared, chosen)
    accuracy = tuple(of.accuracy for of in mine)
    relative = tuple(of.accuracy / by.accuracy for of, by in zip(mine, popular, strict=True))
    return Run(mine[0].hit_ratio, accuracy, relative)


def _counts(scorer: Scorer, prepared: Prepared, users: NDArray[np.int64]) -> list[Counts]:
    """By list length."""
    counts = [Counts.none(len(prepared.watched)) for _ in LENGTHS]
    for user in users.tolist():
        rated, held_out = prepared.local.train.items_of(user), prepared.local.held_out_of(user)
        items = top_items(scorer.scores(user), rated, max(LENGTHS))
        for place, length in enumerate(LENGTHS):
            counts[place] += count_user(items[:length], rated, prepared.watched, held_out)
    return counts


def main(
    model: Annotated[str, typer.Option(help=f"{' '.join(CANDIDATES)}.")],
    dataset: Annotated[list[str], typer.Option(help="Repeat for several.")] = [  # noqa: B006
        "ml-100k",
        "filmtrust",
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, …")] = 3,
    users: Annotated[int, typer.Option(min=1, help="Users of each data set and seed.")] = 1000,
) -> None:
    """Measure every candidate and print them as a Markdown table, best first."""
    if model not in CANDIDATES:
        raise typer.BadParameter(str(unknown("model", model, CANDIDATES)))
    names = [name for name, _ in CANDIDATES[model]()]
    cells = list(product(dataset, range(seeds), range(len(names))))
    calls = [(name, seed, model, place, users) for name, seed, place in cells]
    with shown() as progress:
        advance = counter(progress, "validate", len(calls))
        advance(0)
        found = in_processes(run_of, calls, arrived=lambda _: advance(1))
    runs: dict[tuple[str, int], list[Run]] = {}
    for (name, _, place), run in zip(cells, found, strict=True):
        runs.setdefault((name, place), []).append(run)
    values = [
        float(np.mean([run.relative for name in dataset for run in runs[name, place]]))
        for place in range(len(names))
    ]
    console = Console(width=200, highlight=False)
    heads = [f"{name} HR@50 | accuracy@50 | recall@10" for name in dataset]
    console.print(f"| {model} | {' | '.join(heads)} | ÷ popularity |", markup=False)
    console.print("|" + "---|" * (2 + 3 * len(dataset)))
    for place in sorted(range(len(names)), key=lambda place: -values[place]):
        row = f"| {names[place]} |"
        for name in dataset:
            of = runs[name, place]
            fifty, ten = np.mean([run.accuracy for run in of], axis=0)
            hit_ratio = np.mean([run.hit_ratio for run in of])
            row += f" {hit_ratio:.3f} | {fifty:.3f} | {ten:.3f} |"
        console.print(f"{row} {values[place]:.3f} |", markup=False)


if __name__ == "__main__":
    cli = typer.Typer(pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
