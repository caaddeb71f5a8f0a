"""Many cells in parallel on Ray, each at most once.

Cells of one experiment form a group, which is one task: its model is trained once, for all
defenses and presets. An attack is the same for all models, and what is measured on the clean model
is the same for all attacks: tasks of their own make and measure those, and the groups wait.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, final

from common.errors import VicinalError
from common.files import make_folder, remove_folder
from common.threads import limit_threads
from server.data.datasets import Dataset, load_dataset
from server.model_store import ModelStore
from sims.attacks.profiles import Profiles
from sims.evaluation.cell import (
    Cell,
    Measurer,
    Memo,
    evaluate_cell,
    measure_beside,
    measure_clean,
)
from sims.evaluation.experiment import Experiment, load, not_attacked, prepare
from sims.evaluation.measuring import measure, measure_here
from sims.evaluation.own_model import OwnModel, model_in_file
from sims.functions import is_function, label
from sims.grid.config import GridConfig
from sims.grid.results import (
    CellResult,
    cell_path,
    read_result,
    refuse_old,
    result_of,
    write_result,
)
from sims.processes.lock import locked
from sims.processes.marked import interruptible
from sims.processes.ray_pool import MOST_LOST, RayCluster, last_line
from sims.processes.ray_session import LIBRARY, ray_session, shipped
from sims.processes.workers import Workers
from sims.progress import Report
from sims.terminal import notes_wanted

Groups = dict[str, list[Cell]]
STORES: Final = "stores"


def run_grid(
    config: GridConfig,
    folder: Path,
    *,
    report: Report,
    processes: int,
    address: str | None = None,
    retry_failed: bool = False,
    warn: Callable[[str], None] = lambda _: None,
    done: Callable[[Path, CellResult], None] = lambda _path, _result: None,
) -> list[CellResult]:
    """Run what `folder` has no result of; the results of all cells, in the config's order.

    `warn` is told what looks wrong in a file of ratings, `done` every cell that has just been
    written.

    Raises InputError for results of another version, a data set that cannot be used, and a
    folder that is in use; VicinalError when Ray fails. What was measured until then is kept.
    """
    with locked(folder):
        refuse_old(folder)
        cells = config.cells()
        paths = [cell_path(folder, cell) for cell in cells]
        there = {path for path in paths if path.exists()}
        for path in sorted(there):
            if read_result(path).error and retry_failed:
                there.discard(path)
        todo = [cell for cell, path in zip(cells, paths, strict=True) if path not in there]
        # Fetched once, here, and not by several processes at a time.
        named = {(cell.experiment.dataset, cell.experiment.reading): None for cell in todo}
        for dataset, reading in named:
            loaded = load_dataset(dataset, reading=reading, progress=notes_wanted())
            for doubt in loaded.doubts:
                warn(f"{dataset}: {doubt.text}")
        shown = _Shown(report, cells, todo)
        if todo:
            make_folder(folder / STORES)
            with interruptible(), ray_session(processes=processes, address=address) as ray:
                given = {} if address is None else _put(ray, todo)
                for cell, result in _run(ray, todo, folder.resolve() / STORES, given):
                    write_result(path := cell_path(folder, cell), result)
                    done(path, result)
                    shown.done(cell)
        remove_folder(folder / STORES)
        return [read_result(path) for path in paths]


def _put(ray: Any, cells: Sequence[Cell]) -> dict[str, Any]:
    """Ratings in Ray's memory, for machines that have no file of them, by _same_ratings()."""
    given: dict[str, Any] = {}
    for cell in cells:
        named, name = cell.experiment, _same_ratings(cell)
        if name not in given:
            given[name] = ray.put(load(named))
    return given


def _run(
    ray: Any, cells: Sequence[Cell], stores: Path, given: Mapping[str, Any]
) -> Iterator[tuple[Cell, CellResult]]:
    """Results as they come; one that Ray lost again and again, with its process, is an error.

    given  ratings, by _same_ratings(); what is missing is read where it is needed
    """
    clean_task = ray.remote(num_cpus=1, max_retries=MOST_LOST - 1)(shipped(clean_memo))
    attack_task = ray.remote(num_cpus=1, max_retries=MOST_LOST - 1)(shipped(attack_profiles))
    group_task = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(shipped(run_group))
    groups = _grouped(cells, _same_experiment)
    # With fewer tasks than cores, the users of each cell are shared out.
    spread = len(groups) < int(ray.cluster_resources().get("CPU", 1))
    clean = {
        name: clean_task.remote(part, stores, spread, given.get(_same_ratings(part[0])))
        for name, part in _grouped(cells, _same_clean).items()
    }
    attacks = {
        name: attack_task.remote(part, given.get(_same_ratings(part[0])))
        for name, part in _grouped(cells, _same_attack).items()
    }

    def begin(part: Sequence[Cell]) -> Any:
        first = part[0]
        needed = clean[_same_clean(first)], attacks[_same_attack(first)]
        dataset = given.get(_same_ratings(first))
        return group_task.remote(part, stores, *needed, spread, dataset)

    exceptions = ray.exceptions
    gone = (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.ObjectLostError)
    lost = Counter[str]()
    running = {begin(part): list(part) for part in groups.values()}
    while running:
        (stream,), _ = ray.wait(list(running), num_returns=1)
        left = running[stream]
        try:
            result = ray.get(next(stream))
        except StopIteration:
            del running[stream]
        except exceptions.RayError as error:
            del running[stream]
            name = _same_experiment(left[0])
            lost[name] += isinstance(error, gone)
            if isinstance(error, gone) and lost[name] < MOST_LOST:
                # With its machine, or for want of memory: what is left of it is done elsewhere.
                running[begin(left)] = left
            else:
                yield from ((cell, result_of(cell, None, _line(error))) for cell in left)
        else:
            yield left.pop(0), result


def clean_memo(cells: Sequence[Cell], stores: Path, spread: bool, dataset: Dataset | None) -> Memo:
    """What all attacks share of these cells; nothing where it fails, since each will say so.

    spread   whether users are shared out to all cores of the cluster
    dataset  of these cells; None: to be read here
    """
    limit_threads()
    memo: Memo = {}
    with suppress(Exception), _store(stores, _same_clean(cells[0])) as store:
        prepared = prepare(not_attacked(cells[0].experiment), dataset=dataset)
        own = _own(cells[0].experiment)
        measurer = _measurer(spread, own)
        for cell in cells:
            with suppress(VicinalError):
                measure_clean(cell, prepared, store, measurer, memo, own=own)
        remove_folder(store.folder)
    return memo


def attack_profiles(
    cells: Sequence[Cell], dataset: Dataset | None = None
) -> tuple[Profiles | str | None, Memo]:
    """The fake profiles, None where nothing is attacked, or a line where the attack fails.

    And what baselines that are fitted with them give, which does not depend on the model.
    """
    limit_threads()
    memo: Memo = {}
    try:
        prepared = prepare(cells[0].experiment, dataset=dataset)
        measure_beside(cells[0], prepared, memo)
    except Exception as error:  # noqa: BLE001 - recorded with each cell that needs it
        return _line(error), memo
    return prepared.profiles, memo


def run_group(
    cells: Sequence[Cell],
    stores: Path,
    clean: Memo,
    attacked: tuple[Profiles | str | None, Memo],
    spread: bool = False,
    dataset: Dataset | None = None,
) -> Iterator[CellResult]:
    """The results of cells of one experiment, one by one and in order, errors among them."""
    limit_threads()
    profiles, beside = attacked
    if isinstance(profiles, str):
        yield from (result_of(cell, None, profiles) for cell in cells)
        return
    memo = {**clean, **beside}  # what Ray hands over cannot be written to
    with ExitStack() as opened:
        try:
            prepared = prepare(cells[0].experiment, profiles, dataset=dataset)
            own = _own(cells[0].experiment)
            store = opened.enter_context(_store(stores, _same_experiment(cells[0])))
        except Exception as error:  # noqa: BLE001 - recorded, and does not stop the others
            yield from (result_of(cell, None, _line(error)) for cell in cells)
            return
        for cell in cells:
            try:
                measurer = _measurer(spread, own)
                evaluation = evaluate_cell(cell, prepared, store, measurer, own=own, memo=memo)
                yield result_of(cell.capped(prepared), evaluation.to_json())
            except Exception as error:  # noqa: BLE001 - as above
                yield result_of(cell, None, _line(error))
    remove_folder(store.folder)


def _measurer(spread: bool, own: OwnModel | None) -> Measurer:
    """In a task of Ray's: its core is another's while it waits."""
    if not spread or own is not None:
        return measure_here
    return partial(measure, workers=Workers(cluster=RayCluster(import_module(LIBRARY), "the grid")))


def _own(experiment: Experiment) -> OwnModel | None:
    return model_in_file(experiment.model) if is_function(experiment.model) else None


def _grouped(cells: Sequence[Cell], same: Callable[[Cell], str]) -> Groups:
    groups: Groups = {}
    for cell in cells:
        groups.setdefault(same(cell), []).append(cell)
    return groups


def _same_experiment(cell: Cell) -> str:
    return repr(cell.experiment)


def _same_ratings(cell: Cell) -> str:
    named = cell.experiment
    return repr((named.dataset, named.reading, named.seed))


def _same_clean(cell: Cell) -> str:
    return repr(not_attacked(cell.experiment))


def _same_attack(cell: Cell) -> str:
    return repr(replace(cell.experiment, model=""))


def _store(stores: Path, name: str) -> ModelStore:
    # One process at a time may use a store, so each task has its own.
    return ModelStore(stores / hashlib.sha256(name.encode()).hexdigest()[:16])


def _line(error: BaseException) -> str:
    reason, kind = last_line(error), type(error).__name__
    return reason if isinstance(error, VicinalError) or reason == kind else f"{kind}: {reason}"


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
    return f"{cell.experiment.dataset} · {label(cell.experiment.model)}"
