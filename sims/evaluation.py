"""Robustness and accuracy of one experiment, in process, over all cores.

Each user is answered as a device would answer: neighborhood, fine-tuning, top K, counts.

Shapes: U users, K recommended items, t target items.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.device import answer
from client.local_ratings import LocalRatings
from common.errors import VicinalError
from common.ranking import Counts, count_user, top_items
from common.ratings import RatingMatrix
from common.settings import VicinalSettings
from common.threads import limit_threads
from server.recommender import Recommender
from sims.progress import Report, quiet

Condition = Literal["clean", "clean_defended", "undefended", "defended"]
# What a model was trained on.
Source = Literal["clean", "poisoned"]
Answered = tuple[Counts, list[float]]
# Small enough that progress moves, large enough that sending it costs nothing.
USERS_PER_TASK = 16


@dataclass(frozen=True)
class Measured:
    """Counts over users, and the seconds that each user took, [U], in no order."""

    counts: Counts
    seconds: NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """What workers need: the models, what devices know, and what is counted.

    robust  the models of the defended conditions where those are trained robustly
    rvd     whether the defended conditions fine-tune; else they are a robust model as it is
    """

    recommenders: dict[Source, Recommender]
    local: LocalRatings
    settings: VicinalSettings
    watched: tuple[int, ...]
    list_length: int
    robust: dict[Source, Recommender] | None = None
    rvd: bool = True

    def answer(self, condition: Condition, user: int) -> Counts:
        """One user's counts under one condition."""
        defended = condition in ("clean_defended", "defended")
        models = self.robust if defended and self.robust is not None else self.recommenders
        recommender = models["clean" if condition.startswith("clean") else "poisoned"]
        rated, held_out = self.local.train.items_of(user), self.local.held_out_of(user)
        if not (defended and self.rvd):
            items = recommender.recommend_undefended(user, self.list_length)
            return count_user(items, rated, self.watched, held_out)
        return answer(
            recommender.version,
            recommender.neighborhood(user, self.settings),
            self.settings,
            rated=rated,
            held_out=held_out,
            watched=self.watched,
            list_length=self.list_length,
        ).counts


_bench: Bench | None = None


def _start_worker(bench: Bench, parent: Connection) -> None:
    global _bench  # noqa: PLW0603  # a worker process serves one bench
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    limit_threads()
    _bench = bench


def _end_with(parent: Connection) -> None:
    """End at once when the parent closes its end, or is killed and can say nothing more.

    A pool asked to shut down lets its workers finish what they were given; one whose parent
    was killed lets them wait for more forever.
    """
    wait([parent])
    os._exit(1)


def _measure_task(condition: Condition, users: list[int]) -> Answered:
    assert _bench is not None
    return _measure(_bench, condition, users)


def _measure(bench: Bench, condition: Condition, users: list[int]) -> Answered:
    counts, seconds = Counts.none(len(bench.watched)), []
    for user in users:
        start = time.perf_counter()
        counts += bench.answer(condition, user)
        seconds.append(time.perf_counter() - start)
    return counts, seconds


def measure(
    bench: Bench,
    conditions: Sequence[Condition],
    users: NDArray[np.int64],
    *,
    processes: int | None = None,
    progress: Report = quiet,
) -> dict[Condition, Measured]:
    """Answer every user under every condition; counts do not depend on `processes`.

    Raises VicinalError when a worker process dies.
    """
    nothing = Counts.none(len(bench.watched))
    counts = dict.fromkeys(conditions, nothing)
    seconds: dict[Condition, list[float]] = {condition: [] for condition in conditions}
    count = processes or os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=_start_worker, initargs=(bench, reader)
    )
    with reader, writer, pool:
        try:
            with _interrupts_held():
                tasks = {
                    _submit(pool, condition, part): condition
                    for condition in conditions
                    for part in _parts(users)
                }
            done = 0
            for task in _completed(tasks):
                part_counts, part_seconds = task.result()
                counts[tasks[task]] += part_counts
                seconds[tasks[task]] += part_seconds
                done += len(part_seconds)
                progress("recommend", done, len(conditions) * len(users))
        except BrokenProcessPool as error:
            raise VicinalError(
                "a worker process died, perhaps for want of memory: try fewer --processes"
            ) from error
        except BaseException:
            writer.close()
            pool.shutdown(cancel_futures=True)
            raise
    return {
        condition: Measured(counts[condition], np.array(seconds[condition]))
        for condition in conditions
    }


def _submit(pool: ProcessPoolExecutor, condition: Condition, part: list[int]) -> Future[Answered]:
    """The part's task. A worker's death closes the pool's pipes, perhaps while the next starts."""
    try:
        return pool.submit(_measure_task, condition, part)
    except (OSError, ValueError):
        return pool.submit(_measure_task, condition, part)  # a broken pool says so


def measure_here(
    bench: Bench, conditions: Sequence[Condition], users: NDArray[np.int64]
) -> dict[Condition, Measured]:
    """What `measure` gives, in this process, for who runs many of them side by side."""
    limit_threads()
    measured = {}
    for condition in conditions:
        counts, seconds = _measure(bench, condition, users.tolist())
        measured[condition] = Measured(counts, np.array(seconds))
    return measured


def _completed(tasks: Iterable[Future[Answered]]) -> Iterator[Future[Answered]]:
    """The tasks as they complete.

    Python answers Ctrl-C when its main thread wakes. Waiting without a timeout was seen to sleep
    on until a task completed (native threads may take the signal), so this wakes of itself.
    """
    pending = set(tasks)
    while pending:
        finished, pending = futures.wait(pending, 0.5, futures.FIRST_COMPLETED)
        yield from finished


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started here never see Ctrl-C, which reaches all of a terminal's processes.

    The one that started them answers it for all, after this.
    """
    resource_tracker.ensure_running()  # or it starts with the first process, and unblocks
    arrived: list[int] = []
    # The mask is for the processes started here. In this process a thread of a library may take
    # the signal all the same, so the answer to it is put off too, where it would be given.
    main = threading.current_thread() is threading.main_thread()
    if main:
        before = signal.signal(signal.SIGINT, lambda number, _frame: arrived.append(number))
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        if arrived:
            signal.raise_signal(signal.SIGINT)


def _parts(users: NDArray[np.int64]) -> Iterator[list[int]]:
    for start in range(0, len(users), USERS_PER_TASK):
        yield users[start : start + USERS_PER_TASK].tolist()


def popularity(
    ratings: RatingMatrix,
    local: LocalRatings,
    users: NDArray[np.int64],
    watched: tuple[int, ...],
    list_length: int,
) -> Counts:
    """The counts of recommending what most users of `ratings` rated."""
    scores = ratings.item_counts().astype(np.float32)
    counts = Counts.none(len(watched))
    for user in users.tolist():
        rated = local.train.items_of(user)
        items = top_items(scores, rated, list_length)
        counts += count_user(items, rated, watched, local.held_out_of(user))
    return counts
