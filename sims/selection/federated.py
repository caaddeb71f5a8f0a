"""Training in a fleet: its options chosen, and update attacks against every aggregation.

`python -m sims.selection.federated choose` trains with every candidate on validation items, as in
sims.selection.presets, with fakes whose ratings are all their harm, and prints the most accurate
first. `python -m sims.selection.federated table` prints what update attacks do on the published
split: a row for each aggregation and attack, undefended and under rvd, mean over seeds. Everywhere
the malicious clients are the fakes of an attack on ratings, who have neighbors, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console

from server.federated.settings import AGGREGATIONS, Federated, federated_of
from server.model_store import ModelStore
from sims.evaluation.cell import Memo, evaluate_cell
from sims.evaluation.defenses import NO_FINE_TUNE
from sims.evaluation.experiment import Prepared, prepare
from sims.evaluation.measuring import EvaluationSetup, measure_here, popularity
from sims.evaluation.study import Study
from sims.federated.model import FleetTraining
from sims.federated.registry import NO_UPDATE_ATTACK, UPDATE_ATTACKS
from sims.processes.pools import in_processes
from sims.progress import counter, shown
from sims.selection.presets import MIXRAND, validation

CANDIDATES: Final[tuple[dict[str, Any], ...]] = (
    *(
        {"unrated": drawn, "unrated_weight": weight}
        for drawn, weight in product((2.0, 4.0, 8.0), (0.2, 0.4))
    ),
    {"unrated": 0.0, "unrated_weight": 0.0},
    *({"rate": rate} for rate in (0.3, 3.0)),
    {"user_rate": 20.0},
    {"steps": 3},
    *({"rounds": rounds} for rounds in (20, 80)),
    {"clients": 1024},
)
CONDITIONS: Final = ("clean", "undefended", "clean_defended", "defended")


@dataclass(frozen=True)
class Run:
    """One candidate on one seed: of lists of 50."""

    hit_ratio: float
    accuracy: float
    relative: float


def run_of(dataset: str, seed: int, changes: dict[str, Any], users: int) -> Run:
    """A candidate on validation items, with the fakes of mixrand as honest clients."""
    prepared = validation(dataset, seed, "mf", MIXRAND)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(prepared.user_count, min(users, prepared.user_count), replace=False)
    fleet = FleetTraining(Federated(**changes))
    prepared = replace(prepared, experiment=replace(prepared.experiment, fleet=fleet))
    length = prepared.experiment.list_length
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        setup = EvaluationSetup(
            {"poisoned": prepared.train(store)},
            prepared.local,
            NO_FINE_TUNE,
            prepared.watched,
            length,
            rvd=False,
        )
        counts = measure_here(setup, ["undefended"], chosen)["undefended"].counts
    popular = popularity(prepared.poisoned, prepared.local, chosen, prepared.watched, length)
    return Run(counts.hit_ratio, counts.accuracy, counts.accuracy / popular.accuracy)


@dataclass(frozen=True)
class Row:
    """One update attack against one aggregation, on one seed: by condition, clean ones first."""

    hit_ratio: tuple[float, ...]
    accuracy: tuple[float, ...]
    baselines: tuple[tuple[str, float, float], ...]


def rows_of(study: Study, aggregate: str, attacks: Sequence[str]) -> list[Row]:
    """Every update attack on one seed, beside one clean model."""
    assert study.fleet is not None
    settings = study.fleet.settings.model_copy(update={"aggregate": aggregate})
    found, memo = [], dict[str, Any]()
    prepared: Prepared | None = None
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        for attack in attacks:
            cell = replace(study, fleet=FleetTraining(settings, attack)).cell()
            prepared = prepare(cell.experiment, None if prepared is None else prepared.profiles)
            result = evaluate_cell(cell, prepared, store, partial(measure_here), memo=_memo(memo))
            told = result.to_json()
            found.append(
                Row(
                    tuple(told["hit_ratio"][name] for name in CONDITIONS),
                    tuple(told["accuracy"][name] for name in CONDITIONS),
                    tuple(
                        (name, part["hit_ratio"], part["accuracy"])
                        for name, part in told["baselines"].items()
                    ),
                )
            )
    return found


def _memo(memo: dict[str, Any]) -> Memo:
    return memo


cli = typer.Typer(pretty_exceptions_enable=False)


@cli.command()
def choose(
    dataset: Annotated[str, typer.Option(help="A data set with reported targets.")] = "ml-100k",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, …")] = 1,
    users: Annotated[int, typer.Option(min=1, help="Users of each seed.")] = 400,
) -> None:
    """Train with every candidate and print a Markdown table, the most accurate first."""
    calls = [(dataset, seed, changes, users) for changes in CANDIDATES for seed in range(seeds)]
    with shown() as progress:
        advance = counter(progress, "validate", len(calls))
        advance(0)
        found = in_processes(run_of, calls, arrived=lambda _: advance(1))
    table = []
    for place, changes in enumerate(CANDIDATES):
        runs = found[place * seeds : (place + 1) * seeds]
        name = ", ".join(f"{key} {value:g}" for key, value in changes.items())
        means = [
            float(np.mean([getattr(run, key) for run in runs]))
            for key in ("hit_ratio", "accuracy", "relative")
        ]
        table.append((means[1], f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |"))
    console = Console(width=200, highlight=False)
    console.print(
        "| changed | HR@50 | accuracy@50 | ÷ popularity |\n|---|---|---|---|", markup=False
    )
    for _, line in sorted(table, reverse=True):
        console.print(line, markup=False)


@cli.command()
def table(
    dataset: Annotated[str, typer.Option(help="A data set, by name or file.")] = "ml-100k",
    attack: Annotated[str, typer.Option(help="Of the fakes' ratings.")] = "mixrand",
    aggregate: Annotated[list[str], typer.Option(help="Repeat for several.")] = [*AGGREGATIONS],  # noqa: B006
    update_attack: Annotated[list[str], typer.Option(help="Repeat for several.")] = [  # noqa: B006
        NO_UPDATE_ATTACK,
        *UPDATE_ATTACKS,
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, …")] = 3,
    users: Annotated[
        int | None, typer.Option(min=1, help="Users of each seed; default: all.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Of training.")] = None,
    unrated: Annotated[
        float | None, typer.Option(min=0, help="Items not rated that are drawn for each rating.")
    ] = None,
) -> None:
    """Print hit ratio and accuracy of every aggregation under every update attack."""
    settings = federated_of(rounds=rounds, unrated=unrated)
    study = Study(
        dataset=dataset,
        attack=attack,
        users=users,
        baselines=("popularity", "userknn", "ease"),
        fleet=FleetTraining(settings),
    )
    cells = list(product(aggregate, range(seeds)))
    calls = [(replace(study, seed=seed), rule, update_attack) for rule, seed in cells]
    with shown() as progress:
        advance = counter(progress, "aggregations and seeds", len(calls))
        advance(0)
        found = in_processes(rows_of, calls, arrived=lambda _: advance(1))
    console = Console(width=200, highlight=False)
    for line in lines(aggregate, update_attack, found, seeds):
        console.print(line, markup=False)


def lines(
    rules: Sequence[str], attacks: Sequence[str], found: Sequence[list[Row]], seeds: int
) -> list[str]:
    """The table in Markdown; `found` has the rows of every rule's seeds, one after the other."""
    made = [
        "| aggregation | update attack | HR@50 | under rvd | accuracy@50 | under rvd |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for place, rule in enumerate(rules):
        of_rule = found[place * seeds : (place + 1) * seeds]
        clean = [rows[0] for rows in of_rule]
        made.append(_line(rule, "clean", clean, 0, 2))
        for number, attack in enumerate(attacks):
            name = "ratings alone" if attack == NO_UPDATE_ATTACK else attack
            made.append(_line(rule, name, [rows[number] for rows in of_rule], 1, 3))
    beside = [rows[0].baselines for rows in found[:seeds]]
    for parts in zip(*beside, strict=True):
        ratio, accuracy = (float(np.mean([part[key] for part in parts])) for key in (1, 2))
        made.append(f"| {parts[0][0]} | ratings alone | {ratio:.3f} | | {accuracy:.3f} | |")
    return made


def _line(rule: str, attack: str, rows: Sequence[Row], plain: int, defended: int) -> str:
    values = [
        float(np.mean([getattr(row, key)[place] for row in rows]))
        for key in ("hit_ratio", "accuracy")
        for place in (plain, defended)
    ]
    return f"| {rule} | {attack} | " + " | ".join(f"{value:.3f}" for value in values) + " |"


if __name__ == "__main__":
    cli()
