"""Whether a composition of defenses loses what one of its parts has.

`python -m sims.selection.compositions --dataset ml-100k --attack mixrand --attack vicinity`

Of each training it measures the training alone, rvd alone and both, on the same users, and prints
the differences of both from each, paired by user, ± two standard errors. A composition is worse
than a part when its hit ratio is higher, or its accuracy lower, by more than that and by more than
a tolerance, which settles what chance alone cannot: two hit ratios of 0.000 and 0.001.

Items are validation items, and targets other than the reported ones, as where defenses are chosen
(sims.selection.presets); `--test` measures what results are reported on.

Shapes: B users.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from common.threads import limit_threads
from common.vicinal.settings import capped, preset
from server.model_store import ModelStore
from sims.attacks import REPORTED_TARGETS
from sims.evaluation.cell import sample
from sims.evaluation.defenses import DEFENSES, RVD, Defense, defense_named
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.evaluation.measuring import EvaluationSetup
from sims.processes.pools import in_processes
from sims.progress import counter, shown
from sims.selection.presets import Trial, validation

# What a composition may lose beyond chance.
TOLERANCE: Final = 0.005
LIST_LENGTH: Final = 50

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Of each user asked: targets that could be shown and were, and the held-out item's hit, [B].

    hits      targets shown
    eligible  targets that the user has not rated
    found     1 where the held-out item was shown
    """

    hits: Column
    eligible: Column
    found: Column

    @property
    def hit_ratio(self) -> float:
        return float(self.hits.sum() / max(1.0, self.eligible.sum()))

    @property
    def accuracy(self) -> float:
        return float(self.found.mean())


@dataclass(frozen=True)
class Difference:
    """One result less another, of the same users, and twice its standard error."""

    mean: float
    noise: float

    @classmethod
    def of(cls, differences: Column) -> "Difference":
        """From each user's part; their mean is the difference."""
        count = max(2, len(differences))
        return cls(
            float(differences.mean()),
            float(2 * differences.std(ddof=1) / np.sqrt(count)) if len(differences) > 1 else 0.0,
        )

    @classmethod
    def of_hit_ratios(cls, one: Answers, other: Answers) -> "Difference":
        """Each eligible target counts once, as in a hit ratio."""
        return cls.of((one.hits - other.hits) / max(one.eligible.mean(), 1e-9))

    @classmethod
    def of_accuracies(cls, one: Answers, other: Answers) -> "Difference":
        """Each user counts once."""
        return cls.of(one.found - other.found)

    @property
    def higher(self) -> bool:
        """By more than noise and tolerance."""
        return self.mean > self.noise + TOLERANCE

    @property
    def lower(self) -> bool:
        """By more than noise and tolerance."""
        return -self.mean > self.noise + TOLERANCE

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.noise:.3f}"


@dataclass(frozen=True)
class Composition:
    """A training alone, rvd alone, and both, in one experiment."""

    training: Answers
    rvd: Answers
    both: Answers

    def worse(self) -> list[str]:
        """In what the composition loses, in words."""
        parts = (("training", self.training), ("rvd", self.rvd))
        lost = [
            f"hit ratio above {name}'s"
            for name, part in parts
            if Difference.of_hit_ratios(self.both, part).higher
        ]
        return lost + [
            f"accuracy below {name}'s"
            for name, part in parts
            if Difference.of_accuracies(self.both, part).lower
        ]


def answers(
    prepared: Prepared, store: ModelStore, defense: Defense, preset_name: str, users: int | None
) -> Answers:
    """What a defense of the attacked model answers to a sample of users."""
    asked = sample(prepared, users)
    settings = preset(preset_name, model=prepared.experiment.model)
    setup = EvaluationSetup(
        {"poisoned": prepared.train(store, robust=defense.robust)},
        prepared.local,
        capped(settings, defense.neighbors_of(prepared.user_count)),
        prepared.watched,
        prepared.experiment.list_length,
        rvd=defense.rvd,
    )
    counts = [setup.answer("defended", user) for user in asked.tolist()]
    return Answers(
        np.array([sum(each.hits) for each in counts], dtype=np.float64),
        np.array([sum(each.eligible) for each in counts], dtype=np.float64),
        np.array([each.user_hits for each in counts], dtype=np.float64),
    )


def compositions(
    prepared: Prepared, trainings: list[str], preset_name: str, users: int | None
) -> dict[str, Composition]:
    """By training; every model is trained once. Raises InputError for a name."""
    model = prepared.experiment.model
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:

        def measured(name: str) -> Answers:
            defense = defense_named(name, model=model, preset=preset_name)
            return answers(prepared, store, defense, preset_name, users)

        rvd = measured(RVD)
        return {
            name: Composition(measured(name), rvd, measured(f"{name}+{RVD}")) for name in trainings
        }


def experiment_of(dataset: str, attack: str, seed: int, model: str, *, test: bool) -> Prepared:
    """Raises InputError."""
    if not test:
        return validation(dataset, seed, model, Trial(attack))
    targets = REPORTED_TARGETS.get(dataset)
    return prepare(Experiment(dataset, model, attack, seed, targets, list_length=LIST_LENGTH))


def _found(
    dataset: str,
    attack: str,
    seed: int,
    model: str,
    trainings: list[str],
    preset_name: str,
    users: int | None,
    test: bool,
) -> dict[str, Composition]:
    limit_threads()
    prepared = experiment_of(dataset, attack, seed, model, test=test)
    return compositions(prepared, trainings, preset_name, users)


def rows(place: tuple[str, str, int], found: dict[str, Composition]) -> Iterator[str]:
    """Lines of a Markdown table."""
    for name, one in found.items():
        kinds = (
            ("hit ratio", "hit_ratio", Difference.of_hit_ratios),
            ("accuracy", "accuracy", Difference.of_accuracies),
        )
        for shown_name, field, difference in kinds:
            values = [getattr(each, field) for each in (one.training, one.rvd, one.both)]
            gaps = [difference(one.both, part) for part in (one.training, one.rvd)]
            lost = [what for what in one.worse() if what.startswith(shown_name)]
            yield (
                f"| {' | '.join(map(str, place))} | {name} | {shown_name} | "
                f"{' | '.join(f'{value:.3f}' for value in values)} | "
                f"{' | '.join(map(str, gaps))} | {', '.join(lost)} |"
            )


def default_trainings(model: str) -> list[str]:
    """All that the model has, alone and, for what is not pca itself, after pca."""
    names = [name for name, robust in DEFENSES.items() if robust is not None]
    return [name for name in names if model == "mf" or name in ("unrated", "pca")]


def main(
    dataset: Annotated[list[str], typer.Option(help="Repeat for several.")] = ["ml-100k"],  # noqa: B006
    attack: Annotated[list[str], typer.Option(help="Repeat for several.")] = ["mixrand"],  # noqa: B006
    model: Annotated[str, typer.Option(help="mf nsvd autorec cdae.")] = "mf",
    training: Annotated[
        list[str] | None,
        typer.Option(help="A defense without rvd, as pca+unrated; default: each that there is."),
    ] = None,
    preset_name: Annotated[str, typer.Option("--preset", help="Of rvd.")] = "vicinal",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, …")] = 1,
    users: Annotated[int, typer.Option(min=2, help="Users of each data set and seed.")] = 300,
    test: Annotated[bool, typer.Option(help="Reported targets and test items.")] = False,
) -> None:
    """Print each composition beside its parts; exit code 1 when one is worse than a part."""
    trainings = training or default_trainings(model)
    for name in trainings:
        defense_named(f"{name}+{RVD}", model=model)
    places = list(product(dataset, attack, range(seeds)))
    calls = [(*place, model, trainings, preset_name, users, test) for place in places]
    with shown() as progress:
        advance = counter(progress, "compose", len(calls))
        advance(0)
        results = in_processes(_found, calls, arrived=lambda _: advance(1))
    console = Console(width=400, highlight=False)
    heads = "| data | attack | seed | training | | alone | rvd | both | both − alone | both − rvd |"
    console.print(f"{heads} worse |\n|{'---|' * 11}", markup=False)
    for place, found in zip(places, results, strict=True):
        for row in rows(place, found):
            console.print(row, markup=False)
    worse = sum(bool(one.worse()) for found in results for one in found.values())
    console.print(f"\n{worse} of {len(places) * len(trainings)} compositions are worse than a part")
    raise typer.Exit(1 if worse else 0)


if __name__ == "__main__":
    cli = typer.Typer(pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
