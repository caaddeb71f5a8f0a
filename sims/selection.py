"""Choose the presets on validation items: `python -m sims.selection --model mf`.

From the training part of each data set's split one more item per user is held out, and other
unpopular items are attacked than those that results are reported on. So neither a test item
nor a reported target takes part in the choice.

A candidate is eligible when its hit ratio is at most 0.05 in every run. The eligible are ranked
by accuracy relative to popularity ranking, averaged over data sets; of those within 2 % of
the best, the one with the least work, neighbors × steps, is the preset.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import numpy as np
import typer
from rich.console import Console

from common.errors import InputError
from common.models import model_named
from common.settings import PRESETS, VicinalSettings
from server.datasets import load_dataset
from server.model_store import ModelStore
from server.splits import Split, hold_out_one, leave_one_out
from sims.attacks import choose_targets, make_profiles
from sims.evaluation import Bench, measure, popularity
from sims.experiment import Experiment, Prepared, local_ratings
from sims.progress import shown

# The targets that results are reported on; the published ones.
REPORTED_TARGETS: Final = {
    "ml-100k": (1485, 1320, 821, 1562, 1531),
    "filmtrust": (1576, 926, 942, 848, 107),
}
MAX_HIT_RATIO: Final = 0.05
TOLERANCE: Final = 0.02
# Min support as a share of the neighbors, so that it follows k.
SUPPORT_SHARES: Final = (1 / 25, 2 / 25)


def vicinal_candidates(model: str) -> Iterator[VicinalSettings]:
    """Neighbors × unrated weight × support, and what comes of it without support."""
    # An encoder costs k² more, so the others start with fewer neighbors.
    sizes = (80, 150, 200, 300) if model == "mf" else (40, 80, 150, 200)
    for k, alpha, share in product(sizes, (0.05, 0.1, 0.2, 0.4), SUPPORT_SHARES):
        yield VicinalSettings(k, alpha, 4, min_support=round(share * k))
    for k in sizes:
        yield VicinalSettings(k, 0.2, 4)


def paper_candidates(model: str) -> Iterator[VicinalSettings]:
    """The paper's objective and k with Adagrad's learning rates, and with curvature steps."""
    k = PRESETS[model]["paper"].neighbors
    for steps, rate in product((25, 60), (0.03, 0.1, 0.3, 1.0, 10.0)):
        yield VicinalSettings(k, 0.0, steps, step_rule="adagrad", learning_rate=rate)
    yield VicinalSettings(k, 0.0, 25)


CANDIDATES: Final = {"vicinal": vicinal_candidates, "paper": paper_candidates}


@dataclass(frozen=True)
class Run:
    """One candidate on one data set and seed."""

    hit_ratio: float
    accuracy: float
    relative: float
    milliseconds: float


def validation(dataset: str, seed: int, model: str = "mf") -> Prepared:
    """An experiment on what training may see. Raises InputError."""
    if dataset not in REPORTED_TARGETS:
        raise InputError(f"{dataset}: no reported targets; choose {', '.join(REPORTED_TARGETS)}")
    training: Split = leave_one_out(load_dataset(dataset), seed=seed)
    split = hold_out_one(training.train, seed=seed)
    targets = choose_targets(
        split.train, rng=np.random.default_rng(seed), exclude=REPORTED_TARGETS[dataset]
    )
    experiment = Experiment(dataset, model, seed=seed, targets=targets)
    profiles = make_profiles("mixrand", split.train, seed=seed, targets=targets)
    return Prepared(experiment, "validation", split, profiles, targets, local_ratings(split))


def runs_of(
    prepared: Prepared, store: ModelStore, users: int, settings: list[VicinalSettings]
) -> list[Run]:
    """Every candidate on one data set and seed."""
    recommender = prepared.train(store)
    rng = np.random.default_rng(prepared.experiment.seed)
    chosen = rng.choice(prepared.user_count, min(users, prepared.user_count), replace=False)
    length = prepared.experiment.list_length
    popular = popularity(
        recommender.ratings, prepared.local, chosen, prepared.watched, length
    ).accuracy
    found = []
    for candidate in settings:
        bench = Bench(
            {"poisoned": recommender}, prepared.local, candidate, prepared.watched, length
        )
        measured = measure(bench, ["defended"], chosen)["defended"]
        accuracy = measured.counts.accuracy
        seconds = float(np.median(measured.seconds))
        found.append(Run(measured.counts.hit_ratio, accuracy, accuracy / popular, 1000 * seconds))
    return found


def main(
    dataset: Annotated[list[str], typer.Option(help="Repeat for several.")] = [  # noqa: B006
        "ml-100k",
        "filmtrust",
    ],
    model: Annotated[str, typer.Option(help="mf nsvd autorec cdae.")] = "mf",
    preset: Annotated[str, typer.Option(help="vicinal or paper.")] = "vicinal",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, …")] = 3,
    users: Annotated[int, typer.Option(min=1, help="Users of each data set and seed.")] = 300,
) -> None:
    """Measure every candidate and print them as a Markdown table, best first."""
    if preset not in CANDIDATES:
        raise typer.BadParameter(f"choose one of {', '.join(CANDIDATES)}", param_hint="--preset")
    model_named(model)
    settings = list(CANDIDATES[preset](model))
    runs: dict[str, list[list[Run]]] = {name: [] for name in dataset}
    cells = list(product(dataset, range(seeds)))
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store, shown() as progress:
        for done, (name, seed) in enumerate(cells):
            progress("validate", done, len(cells))
            runs[name].append(runs_of(validation(name, seed, model), store, users, settings))
        progress("validate", len(cells), len(cells))
    ranked = sorted(range(len(settings)), key=lambda place: _rank(runs, place))
    console = Console(width=200, highlight=False)
    heads = [f"{name} HR (worst) | accuracy | ÷ popularity | ms" for name in dataset]
    console.print(f"| k | α | steps | m | rate | {' | '.join(heads)} |")
    console.print("|" + "---|" * (5 + 4 * len(dataset)))
    for place in ranked:
        one = settings[place]
        rate = f"{one.learning_rate:g}" if one.learning_rate else "–"
        row = f"| {one.neighbors} | {one.unrated_weight:g} | {one.steps} | {one.min_support} |"
        row += f" {rate} |"
        for name in dataset:
            mine = [run[place] for run in runs[name]]
            worst = max(run.hit_ratio for run in mine)
            mean = np.mean([[r.hit_ratio, r.accuracy, r.relative, r.milliseconds] for r in mine], 0)
            row += f" {mean[0]:.3f} ({worst:.3f}) | {mean[1]:.3f} | {mean[2]:.3f} | {mean[3]:.1f} |"
        console.print(row)
    console.print(f"\nChosen: {_choose(runs, settings, ranked)}")


def _rank(runs: dict[str, list[list[Run]]], place: int) -> tuple[bool, float]:
    """Eligible before not, then by accuracy relative to popularity, best first."""
    mine = [run[place] for of_dataset in runs.values() for run in of_dataset]
    relative = [np.mean([run[place].relative for run in of]) for of in runs.values()]
    return max(run.hit_ratio for run in mine) > MAX_HIT_RATIO, -float(np.mean(relative))


def _choose(
    runs: dict[str, list[list[Run]]], settings: list[VicinalSettings], ranked: list[int]
) -> VicinalSettings:
    """The least work among the eligible that are nearly as good as the best."""
    refused, best = _rank(runs, ranked[0])
    near = [
        place
        for place in ranked
        if _rank(runs, place)[0] == refused and _rank(runs, place)[1] <= best * (1 - TOLERANCE)
    ]
    return min((settings[place] for place in near), key=lambda one: one.neighbors * one.steps)


if __name__ == "__main__":
    cli = typer.Typer(pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
