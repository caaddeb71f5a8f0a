"""Many cells in parallel on Ray, each at most once.

Cells of one experiment form a group, which is one task: its attack is made and its model is
trained once, for all defenses and presets. What is measured on the clean model is the same
for all attacks: one task before them measures it, and they wait for that.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

from common.errors import VicinalError
from common.threads import limit_threads
from server.datasets import load_dataset
from server.model_store import ModelStore
from sims.cells import Cell, Memo, check_cell, evaluate_cell, measure_clean
from sims.evaluation import measure_here
from sims.experiment import NO_ATTACK, prepare
from sims.grid_config import GridConfig
from sims.grid_results import CellResult, cell_path, locked, read_result, result_of, write_result
from sims.processes import interruptible
from sims.progress import Report
from sims.ray_session import ray_session

Groups = dict[str, list[Cell]]
STORES: Final = "stores"
_COLORS: Final = re.compile(r"\x1b\[[0-9;]*m")


def run_grid(
    config: GridConfig,
    folder: Path,
    *,
    report: Report,
    processes: int,
    address: str | None = None,
    retry_failed: bool = False,
) -> list[CellResult]:
    """Run what `folder` has no result of; the results of all cells, in the config's order.

    Raises InputError for results of another version, a data set that cannot be used, and a
    folder that is in use; VicinalError when Ray fails. What was measured until then is kept.
    """
    with locked(folder):
        cells = config.cells()
        paths = [cell_path(folder, cell) for cell in cells]
        there = {path for path in paths if path.exists()}
        for path in sorted(there):
            if read_result(path).error and retry_failed:
                there.discard(path)
        todo = [cell for cell, path in zip(cells, paths, strict=True) if path not in there]
        # Fetched once, here, and not by several processes at a time.
        for dataset in dict.fromkeys(cell.experiment.dataset for cell in todo):
            load_dataset(dataset, progress=True)
        shown = _Shown(report, cells, todo)
        if todo:
            with interruptible(), ray_session(processes=processes, address=address) as ray:
                for cell, result in _run(ray, todo, folder.resolve() / STORES):
                    write_result(cell_path(folder, cell), result)
                    shown.done(cell)
        shutil.rmtree(folder / STORES, ignore_errors=True)
        return [read_result(path) for path in paths]


def _run(ray: Any, cells: Sequence[Cell], stores: Path) -> Iterator[tuple[Cell, CellResult]]:
    """Results as they come; one that Ray lost, with its process, is an error."""
    clean_task = ray.remote(num_cpus=1, max_retries=0)(clean_memo)
    group_task = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(run_group)
    groups = _grouped(cells, clean=False)
    clean = {
        name: clean_task.remote(part, stores) for name, part in _grouped(cells, clean=True).items()
    }
    running = {
        group_task.remote(part, stores, clean[_name(part[0], clean=True)]): iter(part)
        for part in groups.values()
    }
    while running:
        (stream,), _ = ray.wait(list(running), num_returns=1)
        left = running[stream]
        try:
            result = ray.get(next(stream))
        except StopIteration:
            del running[stream]
        except ray.exceptions.RayError as error:
            del running[stream]
            yield from ((cell, result_of(cell, None, _line(error))) for cell in left)
        else:
            yield next(left), result


def clean_memo(cells: Sequence[Cell], stores: Path) -> Memo:
    """What all attacks share of these cells; nothing where it fails, since each will say so."""
    limit_threads()
    memo: Memo = {}
    with suppress(Exception), _store(stores, cells[0], clean=True) as store:
        first = cells[0].experiment
        prepared = prepare(replace(first, attack=NO_ATTACK))
        for cell in cells:
            with suppress(VicinalError):
                check_cell(cell, prepared)
                measure_clean(cell, prepared, store, measure_here, memo)
    return memo


def run_group(cells: Sequence[Cell], stores: Path, clean: Memo) -> Iterator[CellResult]:
    """The results of cells of one experiment, one by one and in order, errors among them."""
    limit_threads()
    memo = dict(clean)  # what Ray hands over cannot be written to
    with ExitStack() as opened:
        try:
            prepared = prepare(cells[0].experiment)
            store = opened.enter_context(_store(stores, cells[0], clean=False))
        except Exception as error:  # noqa: BLE001 - recorded, and does not stop the others
            yield from (result_of(cell, None, _line(error)) for cell in cells)
            return
        for cell in cells:
            try:
                evaluation = evaluate_cell(cell, prepared, store, measure_here, memo=memo)
                yield result_of(cell, evaluation.to_json())
            except Exception as error:  # noqa: BLE001 - as above
                yield result_of(cell, None, _line(error))
    shutil.rmtree(store.folder, ignore_errors=True)


def _grouped(cells: Sequence[Cell], *, clean: bool) -> Groups:
    groups: Groups = {}
    for cell in cells:
        groups.setdefault(_name(cell, clean=clean), []).append(cell)
    return groups


def _name(cell: Cell, *, clean: bool) -> str:
    """Of the experiment, or of what it shares with those that attack the same otherwise."""
    experiment = cell.experiment
    return repr(replace(experiment, attack=NO_ATTACK) if clean else experiment)


def _store(stores: Path, cell: Cell, *, clean: bool) -> ModelStore:
    # One process at a time may use a store, so each task has its own.
    name = hashlib.sha256(f"{clean}{_name(cell, clean=clean)}".encode()).hexdigest()[:16]
    return ModelStore(stores / name)


def _line(error: BaseException) -> str:
    # Ray tells a whole traceback, in colors; its last line says what happened.
    lines = _COLORS.sub("", str(error)).strip().splitlines() or [""]
    told = " ".join(lines[-1].split())[:500]
    return told if isinstance(error, VicinalError) else f"{type(error).__name__}: {told}"


@final
class _Shown:
    """A bar for each data set and model."""

    def __init__(self, report: Report, cells: Sequence[Cell], todo: Sequence[Cell]) -> None:
        self._report = report
        self._total: dict[str, int] = {}
        self._done: dict[str, int] = {}
        for cell in cells:
            name = _bar(cell)
            self._total[name] = self._total.get(name, 0) + 1
        for name, total in self._total.items():
            self._done[name] = total - sum(_bar(cell) == name for cell in todo)
            report(name, self._done[name], total)

    def done(self, cell: Cell) -> None:
        name = _bar(cell)
        self._done[name] += 1
        self._report(name, self._done[name], self._total[name])


def _bar(cell: Cell) -> str:
    return f"{cell.experiment.dataset} · {cell.experiment.model}"
