"""A grid for trackers: a run for each cell within one for the grid, each written once.

A grid is known by a file that lies in its folder, a cell by the name of its file. So a grid that is
gone on with, in however many runs, processes or machines, is one run there. Cells are written by
the process that the command is, as they are done.
"""

import secrets
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Final, final

import typer

from common.errors import InputError, VicinalError
from common.files import read_file, write_output
from common.text import one_line
from sims.evaluation import keys
from sims.grid.config import GridConfig
from sims.grid.results import CELLS, CellResult, GridRun, read_result, read_results, runs_in
from sims.grid.summary import claims
from sims.grid.table import value_of
from sims.progress import shown
from sims.recorded import recorded
from sims.reporting.of_grid import config_of
from sims.tracking.drawn import drawn_grid
from sims.tracking.places import Places, Tracker, warn, written
from sims.tracking.runs import (
    Metric,
    TrackedRun,
    distinct,
    key_of,
    metrics_of,
    name_of,
    parameters_of,
    tags_of,
)

ID_FILE: Final = "track-id"
ID_BYTES: Final = 16
_ON: Final = ("users", "goal", "audience", "fakes", "targets", "warnings")
_ASKED: Final = (
    *(name for name in keys.ASKED if name in CellResult.model_fields),
    *("attack_size", "attack_options", "step_rule", "learning_rate"),
    *("model_digest", "attack_digest"),
)
_CONDITIONS: Final = ("undefended", "defended")

Cells = Mapping[Path, CellResult]


def grid_id(folder: Path) -> str:
    """What a grid is known by. Raises InputError for a damaged file, and OSError."""
    path = folder / ID_FILE
    if not path.exists():
        write_output(path, f"{secrets.token_hex(ID_BYTES)}\n".encode())
    try:
        found = read_file(path, most=2 * ID_BYTES + 1).decode().strip()
        if len(bytes.fromhex(found)) != ID_BYTES:
            raise ValueError
    except ValueError:
        raise InputError(
            f"{path}: damaged; delete it, and the grid is tracked as another one"
        ) from None
    return found


def cell_run(path: Path, result: CellResult, tags: Mapping[str, str], made: float) -> TrackedRun:
    """Of one cell; `made` is when its file was written."""
    told = result.model_dump(mode="json", exclude={"format", "error"})
    asked = _ASKED if result.error else (*_ASKED, *_ON)
    return TrackedRun(
        name=name_of(
            result.dataset, result.model, result.attack_label, result.label, f"seed {result.seed}"
        ),
        key=key_of([path.stem]),
        parameters=parameters_of(told, asked),
        metrics=() if result.error else metrics_of(told, (*_ASKED, *_ON)),
        tags=tags,
        made=made,
        error=one_line(result.error, 1000),
        files={"cell.json": path.read_bytes()},
    )


def grid_run(
    folder: Path,
    config: GridConfig,
    cells: Cells,
    runs: Sequence[GridRun],
    files: Mapping[str, bytes],
) -> TrackedRun:
    """Of the whole: what holds in how many cells, and means over seeds with standard errors."""
    asked = config.model_dump(mode="json", exclude_defaults=True)
    results = list(cells.values())
    last = runs[-1] if runs else None
    metrics: list[Metric] = [
        Metric("cells", len(results)),
        Metric("cells.failed", sum(bool(one.error) for one in results)),
        Metric("seconds", sum(one.seconds for one in runs)),
    ]
    for claim in claims([one for one in results if not one.error]):
        metrics.append(Metric(f"holds in/{claim.sentence}", claim.cells - len(claim.misses)))
        metrics.append(Metric(f"holds of/{claim.sentence}", claim.cells))
    metrics += _means(results, config)
    return TrackedRun(
        name=name_of("grid", config.title or f"{', '.join(config.datasets)}"),
        key=grid_id(folder),
        parameters={"what": "grid", **parameters_of(asked, asked)},
        metrics=tuple(Metric(name, value) for name, value in _grouped(metrics)),
        tags=_tags(last),
        made=max((path.stat().st_mtime for path in cells), default=folder.stat().st_mtime),
        files=files,
    )


def _tags(run: GridRun | None) -> dict[str, str]:
    return {} if run is None else tags_of(run.model_dump())


def _grouped(metrics: Sequence[Metric]) -> Iterator[tuple[str, float]]:
    """Safe names, whose slashes make groups."""
    groups = [one.name.partition("/") for one in metrics]
    firsts = dict.fromkeys(first for first, _, _ in groups)
    for first in firsts:
        here = [
            (rest, one.value)
            for (begin, _, rest), one in zip(groups, metrics, strict=True)
            if begin == first
        ]
        for name, value in distinct((rest or first, value) for rest, value in here):
            ((plain, _),) = distinct([(first, 0)])
            yield (f"{plain}/{name}" if here[0][0] else name), value


def _means(results: Sequence[CellResult], config: GridConfig) -> Iterator[Metric]:
    """Over seeds: `hit_ratio.defended/ml-100k mf mixrand rvd (…)`, and its standard error."""
    groups: dict[str, list[CellResult]] = {}
    for one in results:
        if not one.error:
            of = " ".join([one.dataset, one.model, one.attack_label, one.label])
            groups.setdefault(of, []).append(one)
    for metric in config.metrics:
        for condition in _CONDITIONS if metric != "seconds" else _CONDITIONS[1:]:
            for of, here in groups.items():
                found = [value_of(one, metric, condition) for one in here]
                values = [value for value in found if value is not None]
                if not values:
                    continue
                name = f"{metric}.{condition}"
                yield Metric(f"{name}/{of}", statistics.fmean(values))
                if len(values) > 1:
                    error = statistics.stdev(values) / sqrt(len(values))
                    yield Metric(f"{name}.error/{of}", error)


@final
class GridTracking:
    """A grid while it runs: cells as they are done, and the whole in the end.

    Raises InputError for a damaged ID_FILE, before the work.
    """

    def __init__(self, places: Places, folder: Path, config: GridConfig) -> None:
        self._folder = folder
        self._config = config
        self._live: dict[str, tuple[Tracker, str]] = {}
        self._places = places
        self._begun = False
        if (folder / ID_FILE).exists():
            grid_id(folder)

    def add(self, path: Path, result: CellResult) -> None:
        """A cell that has just been measured. A tracker that is gone is asked again in the end."""
        if not self._begun:
            self._begin()
        run = cell_run(path, result, tags_of(recorded()), path.stat().st_mtime)
        for address, (tracker, place) in list(self._live.items()):
            try:
                tracker.write(run, within=place)
            except VicinalError as error:
                self._lost(address, error)

    def _begin(self) -> None:
        self._begun = True
        # Without numbers, which are not there yet.
        whole = grid_run(self._folder, self._config, {}, (), {})
        run = replace(whole, metrics=(), tags=tags_of(recorded()))
        for tracker in self._places.trackers:
            try:
                self._live[tracker.address] = tracker, tracker.write(run, ended=False)
            except VicinalError as error:
                self._lost(tracker.address, error)

    def _lost(self, address: str, error: VicinalError) -> None:
        self._live.pop(address, None)
        typer.echo(
            f"warning: not written to {address}: {one_line(str(error))}. The grid goes on; cells "
            "are written in the end",
            err=True,
        )

    def finish(self, cells: Cells) -> None:
        """All cells, and the whole: what is there already is not written again."""
        runs = grid_runs(self._folder, self._config, cells)
        for tracker in self._places.trackers:
            try:
                written(tracker, runs)
            except VicinalError as error:
                warn(tracker, error, self._folder)


def grid_runs(
    folder: Path, config: GridConfig | None, cells: Cells | None = None
) -> list[TrackedRun]:
    """The grid, and its cells; all cells of the folder unless some are named. Raises InputError."""
    every = read_results(folder) if cells is None else list(cells.values())
    if cells is None:
        cells = {path: read_result(path) for path in sorted((folder / CELLS).glob("*.json"))}
    runs = runs_in(folder)
    with shown() as report:
        files = drawn_grid(folder, config, every, report)
    whole = grid_run(folder, config or config_of(every), cells, runs, files)
    return [
        whole,
        *(cell_run(path, one, whole.tags, path.stat().st_mtime) for path, one in cells.items()),
    ]
