"""Training in a fleet: its options chosen, and update attacks against every aggregation.

`python -m sims.selection.federated choose` trains with every candidate on validation items, as in
sims.selection.presets, with fakes whose ratings are all their harm, and prints the most accurate
first. `python -m sims.selection.federated table` prints what update attacks do on the published
split: a row for each aggregation and attack, undefended and under rvd, mean and standard deviation
over seeds. Everywhere the malicious clients are the fakes of an attack on ratings, who have
neighbors, too. With --folder each row of each seed is kept there, and the same command goes on
where it was broken off.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, final

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console

from common.files import make_folder, read_file, write_file
from server.federated.settings import AGGREGATIONS, Federated, federated_of, rule_named
from server.model_store import ModelStore
from sims.evaluation.baselines import USUAL, measure_baseline
from sims.evaluation.cell import sample
from sims.evaluation.defenses import NO_FINE_TUNE
from sims.evaluation.experiment import prepare
from sims.evaluation.measuring import Condition, EvaluationSetup, measure_here, popularity
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
# Beside the update attacks: nobody is malicious.
CLEAN: Final = "clean"


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


@final
class Row(BaseModel):
    """One seed of one row: of lists of 50, as the model is and under rvd, which baselines lack."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hit_ratio: tuple[float, ...]
    accuracy: tuple[float, ...]


def row_of(study: Study, aggregate: str, attack: str) -> Row:
    """A model trained in the fleet on one seed; `attack` is of updates, or CLEAN."""
    assert study.fleet is not None
    settings = study.fleet.settings.model_copy(update={"aggregate": aggregate})
    name = NO_UPDATE_ATTACK if attack == CLEAN else attack
    cell = replace(study, fleet=FleetTraining(settings, name)).cell()
    prepared = prepare(cell.experiment)
    cell = cell.capped(prepared)
    clean = attack == CLEAN
    conditions: tuple[Condition, Condition] = ("undefended", "defended")
    if clean:
        conditions = ("clean", "clean_defended")
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        setup = EvaluationSetup(
            {"clean" if clean else "poisoned": prepared.train(store, clean=clean)},
            prepared.local,
            cell.settings,
            prepared.watched,
            cell.experiment.list_length,
        )
        found = measure_here(setup, conditions, sample(prepared, cell.users))
    counts = [found[condition].counts for condition in conditions]
    return Row(
        hit_ratio=tuple(each.hit_ratio for each in counts),
        accuracy=tuple(each.accuracy for each in counts),
    )


def baseline_row(study: Study, name: str) -> Row:
    """A recommender that nobody defends, fitted to the attacked ratings in one place."""
    cell = study.cell()
    prepared = prepare(cell.experiment)
    counts = measure_baseline(
        name,
        prepared.poisoned,
        prepared.local,
        sample(prepared, cell.users),
        prepared.watched,
        cell.experiment.list_length,
    ).counts
    return Row(hit_ratio=(counts.hit_ratio,), accuracy=(counts.accuracy,))


def kept_row(folder: Path | None, study: Study, rule: str, attack: str) -> Row:
    """A row, from the folder where it is there; else measured, and kept there."""
    if folder is None:
        return _made(study, rule, attack)
    asked = repr((study, rule, attack)).encode()
    path = folder / f"{hashlib.sha256(asked).hexdigest()}.json"
    with suppress(FileNotFoundError, ValidationError):
        return Row.model_validate_json(read_file(path, most=1 << 16))
    row = _made(study, rule, attack)
    write_file(path, row.model_dump_json().encode())
    return row


def _made(study: Study, rule: str, attack: str) -> Row:
    return row_of(study, rule, attack) if rule else baseline_row(study, attack)


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
    folder: Annotated[
        Path | None,
        typer.Option(help="Where rows are kept, to go on with; of this code and these data alone."),
    ] = None,
) -> None:
    """Print hit ratio and accuracy of every aggregation under every update attack."""
    study = Study(
        dataset=dataset,
        attack=attack,
        users=users,
        fleet=FleetTraining(federated_of(rounds=rounds, unrated=unrated)),
    )
    for name in aggregate:
        rule_named(name)
    rows = [(rule, name) for rule in aggregate for name in (CLEAN, *update_attack)]
    rows += [("", name) for name in USUAL]
    if folder is not None:
        make_folder(folder)
    # One seed after the other: what is there when it is broken off is of whole seeds.
    calls = [(folder, replace(study, seed=seed), *row) for seed, row in product(range(seeds), rows)]
    with shown() as progress:
        advance = counter(progress, "rows and seeds", len(calls))
        advance(0)
        found = in_processes(kept_row, calls, arrived=lambda _: advance(1))
    console = Console(width=200, highlight=False)
    for line in lines(rows, found):
        console.print(line, markup=False)


def lines(rows: Sequence[tuple[str, str]], found: Sequence[Row]) -> list[str]:
    """The table in Markdown; `found` has all rows of the first seed, then of the next."""
    made = [
        "| aggregation | update attack | HR@50 | under rvd | accuracy@50 | under rvd |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for place, (rule, attack) in enumerate(rows):
        of_row = found[place :: len(rows)]
        name = "ratings alone" if attack == NO_UPDATE_ATTACK or not rule else attack
        cells = [
            _mean([getattr(row, key)[column] for row in of_row if len(getattr(row, key)) > column])
            for key in ("hit_ratio", "accuracy")
            for column in (0, 1)
        ]
        made.append(f"| {rule or attack} | {name} | {' | '.join(cells)} |")
    return made


def _mean(values: Sequence[float]) -> str:
    """Over seeds, with their standard deviation where there are several."""
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    cli()
