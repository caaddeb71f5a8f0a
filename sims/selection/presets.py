"""Presets and robust trainings, chosen on validation items.

`python -m sims.selection.presets --model mf`

From the training part of each data set's split one more item per user is held out, and other
unpopular items are attacked than those that results are reported on. So neither a test item
nor a reported target takes part in the choice.

Candidates for `vicinal` face four kinds of attack: mixrand mixes, mixinf chooses by influence, tna
optimizes, and vicinity knows the defense; the others face mixrand alone. A candidate for `vicinal`
is eligible when its hit ratio is at most 0.05 in every run. The eligible are ranked by accuracy
relative to popularity ranking, averaged over data sets and attacks. Where none is, and for `paper`,
whose objective does not reach that, the rank is that accuracy × (1 − hit ratio). Of those within
2 % of the best, the one with the least work, neighbors × steps, is the preset. Of each robust
training, the largest accuracy × (1 − hit ratio) is the default, of candidates that have at least
half of popularity's accuracy on every data set: what recommends nothing promotes nothing.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
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
from common.names import unknown
from common.vicinal.settings import PRESETS, StepRule, VicinalSettings
from server.data.datasets import load_dataset
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from server.training.methods import Apr, Ltsmf, Pca, Rmf, Robust, Unrated, Vat
from server.training.train import TrainingSettings
from sims.attacks import choose_targets, make_profiles
from sims.evaluation.defenses import NO_FINE_TUNE
from sims.evaluation.experiment import Experiment, Prepared, local_ratings
from sims.evaluation.measuring import EvaluationSetup, Source, measure_here, popularity
from sims.evaluation.splits import Split, hold_out_one, leave_one_out
from sims.processes.pools import in_processes
from sims.progress import counter, shown

# The targets that results are reported on; the published ones where there are any.
REPORTED_TARGETS: Final = {
    "ml-100k": (1485, 1320, 821, 1562, 1531),
    "filmtrust": (1576, 926, 942, 848, 107),
    "ml-1m": (3445, 825, 1266, 676, 671),
}
MAX_HIT_RATIO: Final = 0.05
TOLERANCE: Final = 0.02
MIN_RELATIVE: Final = 0.5
# Neighbors: more of them, with as many supporters each, let fewer fakes decide. Of cdae, a step of
# which costs k × I, fewer sizes are tried.
SIZES: Final = {
    "mf": (80, 150, 200, 300),
    "nsvd": (40, 80, 150),
    "autorec": (40, 80, 150, 300),
    "cdae": (80, 300),
}
# Min support as a share of the neighbors, so that it follows k.
SUPPORT_SHARES: Final = (1 / 25, 2 / 25, 3 / 25, 5 / 25)

UNRATED_WEIGHTS: Final = (0.01, 0.05, 0.1, 0.2, 0.4)

# Of the optimizer that trains the model (server.training.train). Without mf's own rate there, 10:
# with it the steps of a fine-tune diverge.
RATES: Final[dict[StepRule, tuple[float, ...]]] = {
    "adagrad": (0.03, 0.1, 0.3, 1.0),
    "adam": (0.01, 0.03, 0.1, 0.3),
}

Candidate = VicinalSettings | Robust


def vicinal_candidates(model: str) -> Iterator[VicinalSettings]:
    """Neighbors × unrated weight × support at four steps, and some without support."""
    sizes = SIZES[model]
    for k, weight, share in product(sizes, (0.2, 0.4), SUPPORT_SHARES):
        yield VicinalSettings(k, weight, 4, min_support=round(share * k))
    for k in sizes:
        yield VicinalSettings(k, 0.2, 4)


def paper_candidates(model: str) -> Iterator[VicinalSettings]:
    """The paper's objective and k with training's optimizer, and with curvature steps."""
    k, rule = PRESETS[model]["paper"].neighbors, TrainingSettings(model=model).optimizer
    for steps, rate in product((25, 60), RATES[rule]):
        yield VicinalSettings(k, 0.0, steps, step_rule=rule, learning_rate=rate)
    yield VicinalSettings(k, 0.0, 25)


def robust_candidates(model: str) -> Iterator[Robust]:
    """Each robust training that the model has with its main option at several values."""
    yield from (Unrated(weight=weight) for weight in UNRATED_WEIGHTS)
    yield from (Pca(components=components) for components in (1, 2, 3, 5))
    if model != "mf":
        return
    yield from (Apr(epsilon=epsilon) for epsilon in (0.005, 0.05, 0.1, 0.5))
    yield from (Ltsmf(trimmed=trimmed) for trimmed in (0.05, 0.1, 0.2, 0.4))
    yield from (Rmf(rank=rank) for rank in (6, 12, 24))
    yield from (Rmf(biases=True, damping=damping) for damping in (25.0, 400.0))
    yield from (Vat(epsilon=epsilon) for epsilon in (0.05, 0.2, 0.5, 1.0, 2.0))


CANDIDATES: Final[dict[str, Callable[[str], Iterable[Candidate]]]] = {
    "vicinal": vicinal_candidates,
    "paper": paper_candidates,
    "robust": robust_candidates,
}

ATTACKS: Final = {
    "vicinal": ("mixrand", "mixinf", "tna", "vicinity"),
    "paper": ("mixrand",),
    "robust": ("mixrand",),
}


@dataclass(frozen=True)
class Run:
    """One candidate on one data set, attack and seed."""

    hit_ratio: float
    accuracy: float
    relative: float
    milliseconds: float


# By data set and attack: of each seed, every candidate's.
Runs = dict[tuple[str, str], list[list[Run]]]


def validation(dataset: str, seed: int, model: str = "mf", attack: str = "mixrand") -> Prepared:
    """An experiment on what training may see. Raises InputError."""
    if dataset not in REPORTED_TARGETS:
        raise InputError(f"{dataset}: no reported targets; choose {', '.join(REPORTED_TARGETS)}")
    training: Split = leave_one_out(load_dataset(dataset), seed=seed)
    split = hold_out_one(training.train, seed=seed)
    targets = choose_targets(
        split.train, rng=np.random.default_rng(seed), exclude=REPORTED_TARGETS[dataset]
    )
    experiment = Experiment(dataset, model, seed=seed, targets=targets)
    profiles = make_profiles(attack, split.train, seed=seed, targets=targets)
    return Prepared(experiment, "validation", split, profiles, targets, local_ratings(split))


def candidates_of(kind: str, model: str, trainings: Collection[str] = ()) -> list[Candidate]:
    """In order; of robust trainings those named, all of them without a name."""
    return [
        each
        for each in CANDIDATES[kind](model)
        if not trainings or (not isinstance(each, VicinalSettings) and each.method in trainings)
    ]


def runs_of(
    dataset: str,
    attack: str,
    seed: int,
    model: str,
    users: int,
    kind: str,
    trainings: Collection[str] = (),
) -> list[Run]:
    """Every candidate on one data set, attack and seed."""
    prepared = validation(dataset, seed, model, attack)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(prepared.user_count, min(users, prepared.user_count), replace=False)
    length, found = prepared.experiment.list_length, []
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        plain = prepared.train(store)
        popular = popularity(plain.ratings, prepared.local, chosen, prepared.watched, length)
        for candidate in candidates_of(kind, model, trainings):
            rvd = isinstance(candidate, VicinalSettings)
            settings = candidate if isinstance(candidate, VicinalSettings) else NO_FINE_TUNE
            robust = None if isinstance(candidate, VicinalSettings) else candidate
            recommender = plain if robust is None else prepared.train(store, robust=robust)
            models: dict[Source, Recommender] = {"poisoned": recommender}
            setup = EvaluationSetup(
                models, prepared.local, settings, prepared.watched, length, rvd=rvd
            )
            measured = measure_here(setup, ["defended"], chosen)["defended"]
            hit_ratio, accuracy = measured.counts.hit_ratio, measured.counts.accuracy
            seconds = float(np.median(measured.seconds))
            found.append(Run(hit_ratio, accuracy, accuracy / popular.accuracy, 1000 * seconds))
    return found


def main(
    dataset: Annotated[list[str], typer.Option(help="Repeat for several.")] = [  # noqa: B006
        "ml-100k",
        "filmtrust",
    ],
    model: Annotated[str, typer.Option(help="mf nsvd autorec cdae.")] = "mf",
    preset: Annotated[str, typer.Option(help="vicinal, paper, or robust.")] = "vicinal",
    training: Annotated[
        list[str] | None, typer.Option(help="Of robust, this alone, as vat; repeat for several.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, …")] = 3,
    users: Annotated[int, typer.Option(min=1, help="Users of each data set and seed.")] = 300,
) -> None:
    """Measure every candidate and print them as a Markdown table, best first."""
    if preset not in CANDIDATES:
        raise typer.BadParameter(str(unknown("preset", preset, CANDIDATES)))
    model_named(model)
    candidates = candidates_of(preset, model, training or ())
    if not candidates:
        raise typer.BadParameter(f"--preset {preset} has no candidates {', '.join(training or ())}")
    attacks = ATTACKS[preset]
    cells = list(product(dataset, attacks, range(seeds)))
    runs: Runs = {place: [] for place in product(dataset, attacks)}
    calls = [(*cell, model, users, preset, training or ()) for cell in cells]
    with shown() as progress:
        advance = counter(progress, "validate", len(calls))
        advance(0)
        found = in_processes(runs_of, calls, arrived=lambda _: advance(1))
    for (name, attack, _), run in zip(cells, found, strict=True):
        runs[name, attack].append(run)
    ranked = sorted(range(len(candidates)), key=lambda place: _rank(runs, place, preset))
    console = Console(width=400, highlight=False)
    heads = [
        f"{name} {' | '.join(f'HR {attack} (worst)' for attack in attacks)} | "
        "accuracy | ÷ popularity | ms"
        for name in dataset
    ]
    named = "training" if preset == "robust" else "k | α | steps | m | step rule"
    console.print(f"| {named} | {' | '.join(heads)} |", markup=False)
    columns = named.count("|") + 1 + (3 + len(attacks)) * len(dataset)
    console.print("|" + "---|" * columns)
    for place in ranked:
        row = f"| {_shown(candidates[place])} |"
        for name in dataset:
            for attack in attacks:
                ratios = [of[place].hit_ratio for of in runs[name, attack]]
                row += f" {np.mean(ratios):.3f} ({max(ratios):.3f}) |"
            mine = [of[place] for attack in attacks for of in runs[name, attack]]
            mean = np.mean([[run.accuracy, run.relative, run.milliseconds] for run in mine], 0)
            row += f" {mean[0]:.3f} | {mean[1]:.3f} | {mean[2]:.1f} |"
        console.print(row, markup=False)
    for chosen in _chosen(runs, candidates, ranked, preset):
        console.print(f"\nChosen: {chosen!r}", markup=False)


def _shown(candidate: Candidate) -> str:
    if isinstance(candidate, VicinalSettings):
        rate = f"{candidate.step_rule} {candidate.learning_rate:g}".removesuffix(" 0")
        return (
            f"{candidate.neighbors} | {candidate.unrated_weight:g} | {candidate.steps} | "
            f"{candidate.min_support} | {rate}"
        )
    fields = candidate.model_dump(exclude={"method"}, exclude_unset=True)
    options = ", ".join(f"{name} = {value}" for name, value in fields.items())
    return f"{candidate.method}, {options}"


def _rank(runs: Runs, place: int, preset: str) -> tuple[bool, float]:
    """Eligible before not, then best first."""
    worst = max(run[place].hit_ratio for of in runs.values() for run in of)
    refused = preset != "vicinal" or worst > MAX_HIT_RATIO
    if preset == "robust":
        relative = [np.mean([run[place].relative for run in of]) for of in runs.values()]
        useless = bool(min(relative) < MIN_RELATIVE)
    values = [
        [run[place].relative * (1 - run[place].hit_ratio if refused else 1) for run in of]
        for of in runs.values()
    ]
    return useless if preset == "robust" else refused, -float(
        np.mean([np.mean(of) for of in values])
    )


def _chosen(
    runs: Runs, candidates: list[Candidate], ranked: list[int], preset: str
) -> Iterator[Candidate]:
    """The preset, or one of each robust training."""
    if preset == "robust":
        best = {}
        for place in reversed(ranked):
            best[type(candidates[place])] = candidates[place]
        yield from best.values()
        return
    refused, best_value = _rank(runs, ranked[0], preset)
    near = [
        candidates[place]
        for place in ranked
        if _rank(runs, place, preset)[0] == refused
        and _rank(runs, place, preset)[1] <= best_value * (1 - TOLERANCE)
    ]
    settings = [one for one in near if isinstance(one, VicinalSettings)]
    yield min(settings, key=lambda one: one.neighbors * one.steps)


if __name__ == "__main__":
    cli = typer.Typer(pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
