"""A grid's results on disk: one JSON file a cell, written whole, each cell at most once.

FOLDER/lock               held by the process that runs the grid
FOLDER/cells/DIGEST.json  one cell: what was asked, and what came out or why nothing did
FOLDER/runs.jsonl         how long each run of the grid took
FOLDER/results.parquet    all of them, flat (export)

Format 3 keeps every metric with its intervals, and baselines; format 2 kept hit ratio and accuracy.
Both name a cell's file after its settings as JSON and keep all of them. Format 1 kept neither the
attack's options nor the whole of the vicinal settings: its numbers are read, and what has to know
those settings refuses them.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.errors import InputError
from common.files import write_output
from common.vicinal.book import Release
from common.vicinal.settings import Space, StepRule
from sims.attacks.budget import ATTACK_SIZE, Goal
from sims.attacks.options import Value
from sims.evaluation.cell import Cell
from sims.evaluation.scores import HARMS, MEASURED, flat
from sims.functions import digest_of, label, stable
from sims.recorded import commit, installed_versions

FORMAT: Final = 3
# Read, not written.
OLD_FORMATS: Final = (1, 2)
MAX_BYTES: Final = 1 << 20
# What a defended hit ratio may exceed the clean model's by.
OVER_CLEAN: Final = 0.05
CELLS: Final = "cells"
RUNS: Final = "runs.jsonl"
_SINCE_2: Final = (
    "attack_options",
    "min_support",
    "step_rule",
    "learning_rate",
    "proximal_weight",
)
_MEASURED: Final = (
    "warnings",
    "users",
    "goal",
    "audience",
    "fakes",
    "targets",
    *MEASURED,
    *HARMS,
    "tail_users",
    "groups",
    "intervals",
    "baselines",
    "fake_neighbor_share",
    "seconds",
)

Share = Annotated[float, Field(ge=0, le=1)]
# By condition; null where there is nothing to measure.
Shares = dict[str, Share | None]
Harms = dict[str, Annotated[float, Field(ge=-1, le=1)] | None]
Bounds = tuple[Annotated[float, Field(ge=-1, le=1)], Annotated[float, Field(ge=-1, le=1)]]


class GridRun(BaseModel):
    """One run of `vicinal grid`, wall clock."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: Annotated[float, Field(ge=0, description="that the run took")]
    processes: Annotated[int, Field(ge=1, description="cells measured at a time")]
    command: Annotated[str, Field(description="that ran it; empty where not recorded")] = ""
    versions: Annotated[
        dict[str, str], Field(description="of vicinal, Python and libraries, by name")
    ] = {}
    git: Annotated[str, Field(description="commit of the checkout that ran; empty where none")] = ""


class CellResult(BaseModel):
    """One cell. `error` is empty for one that was measured; then all numbers are there.

    attack_options, min_support, step_rule, learning_rate, proximal_weight  None in format 1 alone,
        which did not keep them
    hit_ratio_10 … baselines  empty in formats 1 and 2
    warnings  what looks wrong in the ratings, each with its `code` and `text`
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1, 2, 3]  # OLD_FORMATS, FORMAT
    dataset: str
    model: str
    attack: str
    defense: str
    preset: str
    seed: int
    k: int
    unrated_weight: float
    steps: int
    list_length: int
    attack_size: float
    attack_options: dict[str, Value] | None = None
    min_support: Annotated[int, Field(ge=1)] | None = None
    step_rule: StepRule | None = None
    learning_rate: float | None = None
    proximal_weight: float | None = None
    neighbors_by: Space = "embedding"
    assumed_fakes: Share = 0.0
    margin: int = 1
    candidates: int = 0
    exploration: Share = 0.0
    row_cap: int = 0
    fold_in: bool = False
    release: Release = "rows"
    # Of a function in a file: which content it had.
    model_digest: str = ""
    attack_digest: str = ""
    error: str = ""
    warnings: list[dict[str, str]] = []
    users: int = 0
    goal: Goal = "promote"
    audience: int = 0
    fakes: int = 0
    targets: list[int] = []
    hit_ratio: dict[str, Share] = {}
    accuracy: dict[str, Share] = {}
    accuracy_thresholded: dict[str, Share] = {}
    hit_ratio_10: Shares = {}
    hit_ratio_50: Shares = {}
    hit_ratio_inside: Shares = {}
    hit_ratio_outside: Shares = {}
    accuracy_tail: Shares = {}
    recall_10: Shares = {}
    recall_50: Shares = {}
    ndcg_10: Shares = {}
    mrr: Shares = {}
    unsupported_share: Shares = {}
    coverage: Shares = {}
    hit_ratio_worst_group: Shares = {}
    worst_group_size: dict[str, int | None] = {}
    harm_over_clean: Harms = {}
    harm_over_clean_defended: Harms = {}
    tail_users: int = 0
    groups: int = 0
    intervals: dict[str, dict[str, Bounds | None]] = {}
    baselines: dict[str, dict[str, Share | int | dict[str, Bounds | None] | None]] = {}
    fake_neighbor_share: Share = 0.0
    seconds: dict[str, float] = {}

    @model_validator(mode="after")
    def _keeps_its_settings(self) -> Self:
        for name in _SINCE_2:
            if (getattr(self, name) is None) != (self.format == 1):
                raise ValueError(f"{name} does not belong to format {self.format}")
        return self

    @property
    def attack_label(self) -> str:
        """`vicinity 10 % (hubs = 4)`, or the attack alone when it has its defaults and 3 %."""
        if not self.attack_options:
            return self.sized_attack
        options = ", ".join(f"{name} = {value}" for name, value in self.attack_options.items())
        return f"{self.sized_attack} ({options})"

    @property
    def sized_attack(self) -> str:
        """`vicinity 10 %`, or the attack alone when it has the paper's 3 %."""
        return sized(self.attack, self.attack_size)

    @property
    def kept_out(self) -> bool | None:
        """Whether whom an attack aims at see targets hardly more often; None: nothing defends."""
        for shares in (self.hit_ratio_inside, self.hit_ratio):
            defended, clean = shares.get("defended"), shares.get("clean")
            if defended is not None and clean is not None:
                return defended <= clean + OVER_CLEAN
        return None

    @property
    def label(self) -> str:
        """`rvd (vicinal, k = 32, by ratings, α = 0.7, φ = 3 %)`, or the defense alone."""
        if not self.preset:
            return self.defense
        near = f", by {self.neighbors_by}" if self.neighbors_by != "embedding" else ""
        assumed = f", φ = {100 * self.assumed_fakes:g} %" if self.assumed_fakes else ""
        told = f"k = {self.k}{near}, α = {self.unrated_weight:g}{assumed}"
        if self.release == "book":
            told = f"from a book{assumed}"
        return f"{self.defense} ({self.preset}, {told})"

    def flat(self) -> dict[str, Any]:
        """A row of a table: `hit_ratio.defended` and so on become columns."""
        row: dict[str, Any] = {}
        for name, value in self.model_dump().items():
            if name in ("attack_options", "warnings"):
                # One column, whatever there is.
                row[name] = None if value is None else json.dumps(value, sort_keys=True)
            else:
                row |= flat({name: value})
        return row


def sized(attack: str, size: float) -> str:
    """An attack with its share of fakes, where that is not the paper's.

    >>> sized("vicinity", 0.1), sized("vicinity", 0.03)
    ('vicinity 10 %', 'vicinity')
    """
    return attack if size == ATTACK_SIZE else f"{attack} {100 * size:g} %"


def result_of(cell: Cell, evaluation: dict[str, Any] | None, error: str = "") -> CellResult:
    """From an evaluation's JSON, or from an error."""
    experiment, settings = cell.experiment, cell.settings
    measured = {} if evaluation is None else {name: evaluation[name] for name in _MEASURED}
    return CellResult(
        format=FORMAT,
        dataset=experiment.dataset,
        model=label(experiment.model),
        model_digest=digest_of(experiment.model),
        attack=label(experiment.attack),
        attack_digest=digest_of(experiment.attack),
        defense=cell.defense.name,
        preset=cell.preset,
        seed=experiment.seed,
        k=settings.neighbors,
        unrated_weight=settings.unrated_weight,
        steps=settings.steps,
        list_length=experiment.list_length,
        attack_size=experiment.attack_size,
        attack_options=dict(experiment.attack_options),
        min_support=settings.min_support,
        step_rule=settings.step_rule,
        learning_rate=settings.learning_rate,
        proximal_weight=settings.proximal_weight,
        neighbors_by=settings.neighbors_by,
        assumed_fakes=settings.assumed_fakes,
        margin=settings.margin,
        candidates=settings.candidates,
        exploration=settings.exploration,
        row_cap=settings.row_cap,
        fold_in=settings.fold_in,
        release=cell.release,
        error=error,
        **measured,
    )


def cell_path(folder: Path, cell: Cell) -> Path:
    """Where a cell's result is or will be: named after all that was asked.

    Of a function in a file its content counts, and not the folder that it lies in.
    """
    experiment = cell.experiment
    names = {"model": stable(experiment.model), "attack": stable(experiment.attack)}
    fields = {**asdict(experiment), **names, "reading": experiment.reading.told()}
    settings = asdict(cell.settings)
    # A name outlives options that are not used.
    for told, new in ((fields, ("reading", "fleet")), (settings, ("row_cap", "fold_in"))):
        for name in new:
            if not told[name]:
                del told[name]
    asked = {
        "format": FORMAT,
        "experiment": fields,
        "defense": cell.defense.name,
        "robust": cell.defense.robust and cell.defense.robust.model_dump(),
        "preset": cell.preset,
        "settings": settings,
        "users": cell.users,
        "baselines": cell.baselines,
    }
    if cell.release != "rows":
        asked["release"] = cell.release
    text = json.dumps(asked, sort_keys=True)
    return folder / CELLS / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def write_result(path: Path, result: CellResult) -> None:
    """Raises OSError."""
    write_output(path, (result.model_dump_json(indent=1) + "\n").encode())


def read_result(path: Path) -> CellResult:
    """Raises InputError for a file that is damaged or of another version's format."""
    with path.open("rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    try:
        if len(data) > MAX_BYTES:
            raise ValueError("too large")
        found = json.loads(data)
        if isinstance(found, dict) and found.get("format", FORMAT) not in (*OLD_FORMATS, FORMAT):
            raise InputError(
                f"{path}: results of format {str(found['format'])[:20]}, written by another "
                f"version of vicinal; this one reads formats up to {FORMAT}: run the grid again "
                "in another --folder"
            )
        return CellResult.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: damaged ({where}: {first['msg']}); delete it to run the cell again"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: damaged ({reason}); delete it to run the cell again") from None


def read_named(path: Path) -> list[CellResult]:
    """What a command's user names: a grid's folder, or a file of one of its cells.

    Raises InputError, which does not call a good file of another kind damaged.
    """
    if not path.is_file():
        return read_results(path)
    if path.parent.name == CELLS and path.suffix == ".json":
        return [read_result(path)]
    # The tables, the parquet and the log of a grid lie in the folder that is meant.
    near = path.parent if (path.parent / CELLS).is_dir() else "that `vicinal grid` fills"
    raise InputError(f"{path}: no cell of a grid; name the folder {near}, or a file in its {CELLS}")


def refuse_old(folder: Path) -> None:
    """Before new cells come beside old ones. Raises InputError, also for a damaged file."""
    for path in sorted((folder / CELLS).glob("*.json")):
        if (found := read_result(path).format) != FORMAT:
            raise InputError(
                f"{folder}: holds results of format {found}, which lack metrics or settings; "
                "`vicinal figure` still draws them, `vicinal grid` needs another --folder"
            )


def read_results(folder: Path) -> list[CellResult]:
    """All cells of a grid, in a fixed order. Raises InputError, also when there is none."""
    found = [read_result(path) for path in sorted((folder / CELLS).glob("*.json"))]
    if not found:
        raise InputError(
            f"{folder}: no results of a grid; name the folder that `vicinal grid` fills"
        )
    found = _told_apart(found)
    return sorted(found, key=lambda one: json.dumps(one.model_dump(), sort_keys=True))


def _told_apart(results: list[CellResult]) -> list[CellResult]:
    """Functions whose file was edited between runs of the grid get their digest as a last name."""
    for name in ("model", "attack"):
        digests: dict[str, set[str]] = {}
        for one in results:
            digests.setdefault(getattr(one, name), set()).add(getattr(one, f"{name}_digest"))
        results = [
            one.model_copy(update={name: f"{getattr(one, name)}#{getattr(one, f'{name}_digest')}"})
            if len(digests[getattr(one, name)]) > 1
            else one
            for one in results
        ]
    return results


def write_parquet(path: Path, results: Sequence[CellResult]) -> None:
    """Raises OSError."""
    import polars as pl  # noqa: PLC0415 - heavy, and for this only

    buffer = io.BytesIO()
    pl.from_dicts([one.flat() for one in results], infer_schema_length=None).write_parquet(buffer)
    write_output(path, buffer.getvalue())


def add_run(folder: Path, *, seconds: float, processes: int, command: str = "") -> None:
    """Record a run; one that was refused before it had a folder leaves none. Raises OSError."""
    if (folder / CELLS).is_dir():
        run = GridRun(
            seconds=round(seconds, 1),
            processes=processes,
            command=command,
            versions=installed_versions(),
            git=commit(),
        )
        with (folder / RUNS).open("a", encoding="utf-8") as opened:
            opened.write(run.model_dump_json() + "\n")


def runs_in(folder: Path) -> list[GridRun]:
    """Every run so far. Raises InputError for a damaged file."""
    path = folder / RUNS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    try:
        return [GridRun.model_validate_json(line) for line in lines]
    except ValidationError:
        raise InputError(f"{path}: damaged; delete it to go on without it") from None
