"""Presets and robust trainings, chosen on validation items.

`python -m sims.selection.presets --model mf`

From the training part of each data set's split one more item per user is held out, and other
unpopular items are attacked than those that results are reported on. So neither a test item
nor a reported target takes part in the choice.

A candidate for `vicinal` is a training with settings of the fine-tune: the preset of today, and
each of its settings changed in turn. It faces eight trials: attacks that mix (mixrand), that
optimize (tna), that know the defense (vicinity and covering in the space of ratings, hubclones,
group) and a plain one (avgpop), and that one once more with targets of middle popularity. It is
eligible when no trial raises its hit ratio by more than 0.05 over what it has without an attack,
nor, of a trial that aims at a group of users, inside of it. The eligible are ranked by accuracy
relative to popularity ranking, averaged over data sets and trials. Where none is, and for `paper`,
whose objective does not reach that, the rank is that accuracy × (1 − hit ratio). Of those within 1
% of the best, the one with the least work, neighbors × steps, is the preset. Of each robust
training, the largest accuracy × (1 − hit ratio) is the default, of candidates that have at least
half of popularity's accuracy on every data set: what recommends nothing promotes nothing.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
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
from common.vicinal.settings import PRESETS, VicinalSettings
from server.data.datasets import load_dataset
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from sims.attacks import REPORTED_TARGETS, choose_targets, make_profiles
from sims.evaluation.defenses import NO_FINE_TUNE
from sims.evaluation.experiment import NO_ATTACK, Experiment, Prepared, local_ratings
from sims.evaluation.measuring import EvaluationSetup, Source, measure_here, popularity
from sims.evaluation.splits import Split, hold_out_one, leave_one_out
from sims.processes.pools import in_processes
from sims.progress import counter, shown
from sims.selection.candidates import CANDIDATES, Candidate

# Data sets without five items of middle popularity.
WITHOUT_MIDDLE: Final = ("filmtrust",)
MAX_RISE: Final = 0.05
TOLERANCE: Final = 0.01
MIN_RELATIVE: Final = 0.5


@dataclass(frozen=True)
class Trial:
    """An attack of 3 % fakes, by name and options; `none` has the same targets and no fakes."""

    attack: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """`avgpop (targets middle)`."""
        told = ", ".join(f"{name} {value}" for name, value in self.options)
        return f"{self.attack} ({told})" if told else self.attack

    @property
    def middle(self) -> bool:
        """Whether the targets are items of middle popularity, which real users rated, too."""
        return ("targets", "middle") in self.options


UNATTACKED: Final = (Trial("none"), Trial("none", (("targets", "middle"),)))
# What alone other choices than that of a preset `vicinal` are made under.
MIXRAND: Final = Trial("mixrand")
VICINAL_TRIALS: Final = (
    *UNATTACKED,
    MIXRAND,
    Trial("tna"),
    Trial("vicinity", (("space", "ratings"),)),
    Trial("covering"),
    Trial("hubclones"),
    Trial("group"),
    Trial("avgpop"),
    Trial("avgpop", (("targets", "middle"),)),
)
TRIALS: Final = {
    "vicinal": VICINAL_TRIALS,
    "paper": (UNATTACKED[0], MIXRAND),
    "robust": (UNATTACKED[0], MIXRAND),
}


@dataclass(frozen=True)
class Run:
    """One candidate in one trial, on one data set and seed.

    inside  hit ratio among the users whom the attack aims at; that of all where it aims at all
    """

    hit_ratio: float
    inside: float
    accuracy: float
    relative: float
    milliseconds: float


# By data set and trial: of each seed, every candidate's.
Runs = dict[tuple[str, Trial], list[list[Run]]]


def validation(dataset: str, seed: int, model: str, trial: Trial) -> Prepared:
    """An experiment on what training may see, under a trial's attack. Raises InputError."""
    if dataset not in REPORTED_TARGETS:
        raise InputError(f"{dataset}: no reported targets; choose {', '.join(REPORTED_TARGETS)}")
    loaded = load_dataset(dataset)
    training: Split = leave_one_out(loaded, seed=seed)
    split = hold_out_one(training.train, seed=seed)
    targets = choose_targets(
        split.train,
        rng=np.random.default_rng(seed),
        exclude=REPORTED_TARGETS[dataset],
        choice="middle" if trial.middle else "unpopular",
    )
    experiment = Experiment(dataset, model, seed=seed, targets=targets)
    profiles = None
    if trial.attack != NO_ATTACK:
        options = {name: value for name, value in trial.options if name != "targets"}
        profiles = make_profiles(
            trial.attack, split.train, seed=seed, targets=targets, options=options
        )
    local = local_ratings(split)
    return Prepared(experiment, "validation", split, profiles, targets, local, loaded)


def candidates_of(kind: str, model: str, trainings: Collection[str] = ()) -> list[Candidate]:
    """In order; those with the trainings named, all of them without a name."""
    return [
        each
        for each in CANDIDATES[kind](model)
        if not trainings or (each.training is not None and each.training.method in trainings)
    ]


def trials_of(trials: Sequence[Trial], names: Collection[str] = ()) -> list[Trial]:
    """Those whose attack is named, and what they are compared with; all of them without names."""
    found = [each for each in trials if not names or each in UNATTACKED or each.attack in names]
    if absent := set(names) - {each.attack for each in found}:
        raise unknown("trial", absent.pop(), sorted({each.attack for each in trials}))
    return found


def runs_of(
    dataset: str,
    trial: Trial,
    seed: int,
    model: str,
    users: int,
    kind: str,
    trainings: Collection[str] = (),
) -> list[Run]:
    """Every candidate in one trial, on one data set and seed."""
    prepared = validation(dataset, seed, model, trial)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(prepared.user_count, min(users, prepared.user_count), replace=False)
    audience = () if prepared.profiles is None else prepared.profiles.audience
    aimed_at = np.array(audience[:users] or chosen, dtype=np.int64)
    length, found = prepared.experiment.list_length, []
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        popular = popularity(prepared.poisoned, prepared.local, chosen, prepared.watched, length)
        for candidate in candidates_of(kind, model, trainings):
            settings = candidate.settings or NO_FINE_TUNE
            models: dict[Source, Recommender] = {
                "poisoned": prepared.train(store, robust=candidate.training)
            }
            setup = EvaluationSetup(
                models,
                prepared.local,
                settings,
                prepared.watched,
                length,
                rvd=candidate.settings is not None,
            )
            measured = measure_here(setup, ["defended"], chosen)["defended"]
            hit_ratio, accuracy = measured.counts.hit_ratio, measured.counts.accuracy
            inside = hit_ratio
            if audience:
                within = measure_here(setup, ["defended"], aimed_at)["defended"]
                inside = within.counts.hit_ratio
            seconds = float(np.median(measured.seconds))
            found.append(
                Run(hit_ratio, inside, accuracy, accuracy / popular.accuracy, 1000 * seconds)
            )
    return found


def main(
    dataset: Annotated[list[str], typer.Option(help="Repeat for several.")] = [  # noqa: B006
        "ml-100k",
        "filmtrust",
    ],
    model: Annotated[str, typer.Option(help="mf nsvd autorec cdae.")] = "mf",
    preset: Annotated[str, typer.Option(help="vicinal, paper, or robust.")] = "vicinal",
    training: Annotated[
        list[str] | None, typer.Option(help="This one alone, as vat; repeat for several.")
    ] = None,
    trial: Annotated[
        list[str] | None, typer.Option(help="This attack alone, as covering; repeat for several.")
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
    try:
        trials = trials_of(TRIALS[preset], trial or ())
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    places = [
        (name, each)
        for name, each in product(dataset, trials)
        if not (each.middle and name in WITHOUT_MIDDLE)
    ]
    cells = [(*place, seed) for place, seed in product(places, range(seeds))]
    runs: Runs = {place: [] for place in places}
    calls = [(*cell, model, users, preset, training or ()) for cell in cells]
    with shown() as progress:
        advance = counter(progress, "validate", len(calls))
        advance(0)
        found = in_processes(runs_of, calls, arrived=lambda _: advance(1))
    for (name, of, _), run in zip(cells, found, strict=True):
        runs[name, of].append(run)
    ranked = sorted(range(len(candidates)), key=lambda place: _rank(runs, place, preset))
    console = Console(width=1000, highlight=False)
    attacks = [each for each in trials if each not in UNATTACKED] or trials[:1]
    heads = [
        f"{name} {' | '.join(f'{each.name} (worst)' for each in attacks)} | "
        "accuracy | ÷ popularity | ms"
        for name in dataset
    ]
    console.print(f"| candidate | {' | '.join(heads)} |", markup=False)
    console.print("|" + "---|" * (1 + (3 + len(attacks)) * len(dataset)))
    for place in ranked:
        row = f"| {_shown(candidates[place], PRESETS[model].get(preset))} |"
        for name in dataset:
            for each in attacks:
                if (name, each) not in runs:
                    row += " – |"
                    continue
                rises = _rises(runs, place, name, each)
                row += f" {np.mean(rises):.3f} ({max(rises):.3f}) |"
            mine = [run[place] for each in attacks for run in runs.get((name, each), [])]
            mean = np.mean([[run.accuracy, run.relative, run.milliseconds] for run in mine], 0)
            row += f" {mean[0]:.3f} | {mean[1]:.3f} | {mean[2]:.1f} |"
        console.print(row, markup=False)
    for chosen in _chosen(runs, candidates, ranked, preset):
        console.print(f"\nChosen: {chosen!r}", markup=False)


def _shown(candidate: Candidate, middle: VicinalSettings | None) -> str:
    """The training, k, T and λ, and what else differs from the preset."""
    training, settings = candidate.training, candidate.settings
    parts = []
    if training is not None:
        told = training.model_dump(exclude={"method"}, exclude_unset=True)
        parts.append(" ".join([training.method, *(f"{n}={v}" for n, v in told.items())]))
    if settings is not None:
        parts.append(f"k={settings.neighbors} T={settings.steps} λ={settings.proximal_weight:g}")
        shown = ("neighbors", "steps", "proximal_weight")
        parts += [
            f"{each.name}={getattr(settings, each.name)}"
            for each in fields(settings)
            if each.name not in shown and getattr(settings, each.name) != getattr(middle, each.name)
        ]
    return ", ".join(parts)


def _rises(runs: Runs, place: int, dataset: str, trial: Trial) -> list[float]:
    """Of each seed: by how much an attack raises the hit ratio of those it aims at."""
    before = runs[dataset, next(each for each in UNATTACKED if each.middle == trial.middle)]
    pairs = zip(runs[dataset, trial], before, strict=True)
    return [attacked[place].inside - calm[place].hit_ratio for attacked, calm in pairs]


def _rank(runs: Runs, place: int, preset: str) -> tuple[bool, float]:
    """Eligible before not, then best first."""
    attacked = [key for key in runs if key[1] not in UNATTACKED] or list(runs)
    worst = max(max(_rises(runs, place, *key)) for key in attacked)
    refused = preset != "vicinal" or worst > MAX_RISE
    values = [
        [run[place].relative * (1 - run[place].hit_ratio if refused else 1) for run in runs[key]]
        for key in attacked
    ]
    if preset == "robust":
        relative = [np.mean([run[place].relative for run in runs[key]]) for key in attacked]
        refused = bool(min(relative) < MIN_RELATIVE)
    return refused, -float(np.mean([np.mean(of) for of in values]))


def _chosen(
    runs: Runs, candidates: list[Candidate], ranked: list[int], preset: str
) -> Iterator[Candidate]:
    """The preset, or one of each robust training."""
    if preset == "robust":
        best = {}
        for place in reversed(ranked):
            best[type(candidates[place].training)] = candidates[place]
        yield from best.values()
        return
    refused, best_value = _rank(runs, ranked[0], preset)
    near = [
        candidates[place]
        for place in ranked
        if _rank(runs, place, preset)[0] == refused
        and _rank(runs, place, preset)[1] <= best_value * (1 - TOLERANCE)
    ]
    tuned = [one for one in near if one.settings is not None]
    yield min(tuned, key=_work)


def _work(candidate: Candidate) -> int:
    assert candidate.settings is not None
    return candidate.settings.neighbors * candidate.settings.steps


if __name__ == "__main__":
    cli = typer.Typer(pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
