"""`vicinal.compare`: data sets × models × attacks × defenses × presets × seeds, cell after cell.

What `vicinal grid` does from a file and on many cores, for what is in memory: frames, functions
and modules.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, final

from rich.table import Table
from rich.text import Text

from common.errors import InputError, VicinalError
from common.threads import one_thread
from server.data.datasets import Dataset
from server.model_store import ModelStore
from sims.api.attack import named_attack, target_indices
from sims.api.data import load
from sims.api.ids import Id
from sims.api.model import built_in, own_of
from sims.api.surroundings import reporting, store_folder
from sims.attacks.budget import Attack
from sims.attacks.options import Value
from sims.evaluation.baselines import baselines_named
from sims.evaluation.cell import Cell, Memo, evaluate_cell
from sims.evaluation.experiment import (
    FILE_PREFIX,
    NO_ATTACK,
    Prepared,
    check,
    prepare,
)
from sims.evaluation.measuring import measure_here
from sims.evaluation.own_model import OwnModel
from sims.evaluation.scores import HARMS, MEASURED, flat
from sims.evaluation.study import Study
from sims.functions import failure, label
from sims.numbers import seed_of, several
from sims.rendering import as_html, as_text

if TYPE_CHECKING:
    import polars as pl

NAMED: Final = ("dataset", "model", "attack", "defense", "preset", "seed")
# Failures below a table.
SHOWN: Final = 5
# What is no list is one of these.
ALONE: Final[dict[str, tuple[type, ...]]] = {
    "datasets": (str, Path, Dataset),
    "attacks": (str, FunctionType),
    "defenses": (str,),
    "models": (str, FunctionType, OwnModel),
    "presets": (str,),
}


@final
@dataclass(frozen=True, repr=False)
class Comparison:
    """Every cell that was asked for, in order: measured, or failed.

    cells  what Evaluation.to_json gives, or the names of what was asked and an `error`
    """

    cells: tuple[Mapping[str, Any], ...]

    @property
    def failures(self) -> list[str]:
        """A line for each cell that failed."""
        return [
            f"{' · '.join(str(cell[name]) for name in NAMED[:4])} · seed {cell['seed']}: "
            f"{cell['error']}"
            for cell in self.cells
            if cell["error"]
        ]

    def __repr__(self) -> str:
        counts = {
            name: len({cell[name] for cell in self.cells})
            for name in ("dataset", "model", "attack", "defense", "seed")
        }
        axes = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
        return f"Comparison({len(self.cells)} cells, {len(self.failures)} failed: {axes})"

    def __str__(self) -> str:
        return as_text(self.table())

    def _repr_html_(self) -> str:
        return as_html(self.table())

    def to_json(self) -> list[dict[str, Any]]:
        """A list of all cells."""
        return [dict(cell) for cell in self.cells]

    def frame(self) -> "pl.DataFrame":
        """A row a cell; `hit_ratio_defended` and the like are empty where it failed.

        `intervals_accuracy_defended` is a list of two, `baselines_ease_accuracy` a baseline's.
        """
        import polars as pl  # noqa: PLC0415 - heavy, and for this only

        columns = (*NAMED, "k", "users", "fakes")
        measured = (*MEASURED, *HARMS, "intervals", "baselines")
        rows = [
            {name: cell.get(name) for name in columns}
            | flat({name: cell.get(name, {}) for name in measured})
            | {"error": cell["error"]}
            for cell in self.cells
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    def table(self) -> Table:
        """Hit ratio and accuracy, the mean over seeds ± their standard deviation."""
        # As text: what a name or a failure says may hold what rich takes for markup.
        failures = Text(_few(self.failures), style="table.caption")
        table = Table(caption=failures or None, caption_justify="left")
        for heading in ("data set", "model", "attack", "defense"):
            table.add_column(heading)
        for heading in ("HR undefended", "HR", "accuracy undefended", "accuracy"):
            table.add_column(heading, justify="right")
        groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for cell in self.cells:
            groups.setdefault(tuple(cell[name] for name in NAMED[:-1]), []).append(cell)
        for (*names, defense, preset), cells in groups.items():
            told = f"{defense} ({preset})" if "rvd" in defense else defense
            columns = product(("hit_ratio", "accuracy"), ("undefended", "defended"))
            row = (*names, told, *(_mean(cells, *column) for column in columns))
            table.add_row(*map(Text, row))
        return table


def compare(
    datasets: Iterable[Any],
    attacks: Iterable[str | Callable[..., Any]],
    defenses: Iterable[str] = ("none", "rvd"),
    *,
    models: Iterable[Any] = ("mf",),
    presets: Iterable[str] = ("vicinal",),
    seeds: Iterable[int] = (0,),
    attack_options: Mapping[str, Mapping[str, Value]] | None = None,
    attack_size: float | None = None,
    targets: Sequence[Id] | None = None,
    list_length: int = 50,
    users: int | None = None,
    baselines: str | Sequence[str] | None = None,
    store: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Evaluate every combination in this process; one that fails does not stop the others.

    datasets        each what `load` gives or takes; names of synthetic ratings are made with the
                    first seed
    attacks         each what `evaluate` takes, but for profiles
    defenses        each what `evaluate` takes
    models          each what `evaluate` takes
    presets         each what `evaluate` takes; a difference to those with rvd of built-in models
    seeds           of split, targets, attack and training
    attack_options  by the attack's name
    attack_size     fakes as a share of real users; None is 0.03. `file:PATH` has its own
    targets         ids of the items to promote; None draws five unpopular ones from the seed
    list_length     K, items in a recommendation
    users           size of a random sample that is asked; None asks everybody
    baselines       as `evaluate` takes them
    store           folder that keeps trained models, so that the same is not trained twice
    progress        whether to show bars

    One alone needs no list, but for seeds. Each cell has the numbers that `evaluate` gives. Raises
    InputError for names that do not go together, before anything is measured; OSError.
    """
    names = ("datasets", "attacks", "defenses", "models", "presets", "seeds")
    given_axes: tuple[Any, ...] = (datasets, attacks, defenses, models, presets, seeds)
    axes = [
        several(name, axis, ALONE.get(name, ()))
        for name, axis in zip(names, given_axes, strict=True)
    ]
    for name, axis in zip(names, axes, strict=True):
        if not axis:
            raise InputError(f"compare: {name} is empty; give at least one")
    seed_list = [seed_of(seed) for seed in axes[5]]
    loaded = _unique(
        "data sets",
        [(data.name, data) for data in (load(each, seed=seed_list[0]) for each in axes[0])],
    )
    functions = _unique("attacks", [named_attack(each) for each in axes[1]])
    modules = _unique("models", [_named_model(each) for each in axes[3]])
    options, beside = dict(attack_options or {}), baselines_named(baselines)
    if unknown := set(options) - {label(name) for name in functions}:
        raise InputError(f"attack_options: {min(unknown)} is none of the attacks")
    given = [name for name, made in functions.items() if made is None and _is_file(name)]
    if attack_size is not None and given and set(functions) <= {*given, NO_ATTACK}:
        raise InputError(f"attack {given[0]}: these profiles are made; leave out attack_size")
    items = {name: target_indices(data, targets) for name, data in loaded.items()}

    def study(
        dataset: Dataset, attack: str, seed: int, model: str, defense: str, preset: str
    ) -> Study:
        return Study(
            dataset=dataset.name,
            model=model,
            attack=attack,
            attack_options=options.get(label(attack), {}),
            attack_size=None if attack in given else attack_size,
            targets=items[dataset.name],
            defense=defense,
            preset=preset,
            list_length=list_length,
            seed=seed,
            users=users,
            baselines=beside,
        )

    groups = [
        _Group(
            dataset,
            functions[attack],
            seed,
            [
                (cell, own)
                for model, own in modules.items()
                for cell in _cells(
                    [
                        study(dataset, attack, seed, model, defense, preset)
                        for defense, preset in product(axes[2], axes[4])
                    ],
                    own,
                    made=functions[attack] is not None,
                )
            ],
        )
        for dataset, seed, attack in product(loaded.values(), seed_list, functions)
    ]
    for group in groups:
        check(group.cells[0][0].experiment, attack=group.attack, own_model=True)
    total, found = sum(len(group.cells) for group in groups), list[Mapping[str, Any]]()
    memos: dict[tuple[str, int], Memo] = {}
    with ExitStack() as stack:
        stack.enter_context(one_thread())
        opened = stack.enter_context(ModelStore(stack.enter_context(store_folder(store))))
        report = stack.enter_context(reporting(progress))
        for group in groups:
            memo = memos.setdefault((group.dataset.name, group.seed), {})
            for result in group.run(opened, memo):
                found.append(result)
                report("cells", len(found), total)
    return Comparison(tuple(found))


@final
@dataclass(frozen=True)
class _Group:
    """Cells of one data set, seed and attack: the profiles are made once."""

    dataset: Dataset
    attack: Attack | None
    seed: int
    cells: list[tuple[Cell, OwnModel | None]]

    def run(self, store: ModelStore, memo: Memo) -> Iterator[dict[str, Any]]:
        """What came of each cell, errors among them."""
        try:
            first: Prepared | Exception = prepare(
                self.cells[0][0].experiment,
                dataset=self.dataset,
                attack=self.attack,
                own_model=True,
            )
        except Exception as error:  # noqa: BLE001 - recorded with every cell that needs it
            first = error
        for cell, own in self.cells:
            asked = {
                "dataset": cell.experiment.dataset,
                "model": label(cell.experiment.model),
                "attack": label(cell.experiment.attack),
                "defense": cell.defense.name,
                "preset": cell.preset,
                "seed": cell.experiment.seed,
            }
            try:
                if isinstance(first, Exception):
                    raise first
                prepared = replace(first, experiment=cell.experiment)
                measured = evaluate_cell(cell, prepared, store, measure_here, own=own, memo=memo)
                yield {**measured.to_json(), "error": ""}
            except Exception as error:  # noqa: BLE001 - recorded, and does not stop the others
                known = isinstance(error, VicinalError)
                yield {**asked, "error": str(error) if known else failure(error, None)}


def _is_file(attack: str) -> bool:
    return attack.startswith(FILE_PREFIX)


def _cells(studies: list[Study], own: OwnModel | None, *, made: bool) -> list[Cell]:
    """One of each that differs: presets mean nothing to what is not fine-tuned."""
    cells: dict[str, Cell] = {}
    for study in studies:
        cell = study.cell(own, made=made)
        key = repr((cell.defense, cell.settings, cell.preset) if cell.defense.rvd else cell.defense)
        cells.setdefault(key, cell)
    return list(cells.values())


def _named_model(model: Any) -> tuple[str, OwnModel | None]:
    own = own_of(model)
    return (built_in(model), None) if own is None else (own.name, own)


def _unique(what: str, named: list[tuple[str, Any]]) -> dict[str, Any]:
    """By name. Raises InputError for two of one name, whose results could not be told apart."""
    found: dict[str, Any] = {}
    for name, value in named:
        if label(name) in map(label, found):
            raise InputError(f"compare: two {what} are called {label(name)}: rename one")
        found[name] = value
    return found


def _few(lines: list[str]) -> str:
    more = [f"… {len(lines) - SHOWN} more in .failures"] if len(lines) > SHOWN else []
    return "\n".join(lines[:SHOWN] + more)


def _mean(cells: Sequence[Mapping[str, Any]], metric: str, condition: str) -> str:
    measured = [cell[metric][condition] for cell in cells if not cell["error"]]
    values = [value for value in measured if value is not None]
    if not values:
        return "–" if measured else "failed"
    shown = f"{statistics.fmean(values):.3f}"
    return shown + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")
