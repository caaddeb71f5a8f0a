"""Work shared out to worker processes that end with the one who started them, however that ends.

Workers are spawned, and never see Ctrl-C, which reaches all of a terminal's processes: the one who
started them answers it for all.
"""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from common.processes import Pinned, core_count, end_with
from common.threads import limit_threads
from sims.processes.shared import Shared, shared

R = TypeVar("R")
Call = tuple[Any, ...]


def in_processes(
    function: Callable[..., R],
    calls: Sequence[Call],
    *,
    processes: int | None = None,
    start: Callable[..., None] | None = None,
    arguments: Call = (),
    arrived: Callable[[R], None] = lambda _result: None,
) -> list[R]:
    """The results of a function for each of its calls' arguments, in the order of the calls.

    processes  at a time; None is one a core
    start      called in each worker before its first call, with `arguments`, whose arrays are in
               memory once for all workers
    arrived    called here with each result, in the order in which they come

    Raises BrokenProcessPool when a worker dies, and what a call raises.
    """
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with reader, writer, shared(arguments) as given:
        pool = ProcessPoolExecutor(
            processes or core_count(),
            mp_context=context,
            initializer=Pinned(_start_worker),
            initargs=(reader, start, given),
        )
        with pool:
            return _results(pool, writer, function, calls, arrived)


def _results(
    pool: ProcessPoolExecutor,
    writer: Connection,
    function: Callable[..., R],
    calls: Sequence[Call],
    arrived: Callable[[R], None],
) -> list[R]:
    try:
        with _interrupts_held():
            tasks = [_submitted(pool, function, call) for call in calls]
        for task in _completed(tasks):
            arrived(task.result())
        return [task.result() for task in tasks]
    except BaseException:
        writer.close()
        pool.shutdown(cancel_futures=True)
        raise


def _start_worker(parent: Connection, start: Callable[..., None] | None, given: Shared) -> None:
    # A pool asked to shut down lets its workers finish what they were given; one whose parent was
    # killed lets them wait for more forever.
    end_with(parent, first=given.remove)
    limit_threads()
    if start is not None:
        start(*given.value())


def _submitted(pool: ProcessPoolExecutor, function: Callable[..., R], call: Call) -> Future[R]:
    """The call's task. A worker's death closes the pool's pipes, perhaps while the next starts."""
    try:
        return pool.submit(function, *call)
    except (OSError, ValueError):
        return pool.submit(function, *call)  # a broken pool says so


def _completed(tasks: Iterable[Future[R]]) -> Iterator[Future[R]]:
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
    """Processes started here never see Ctrl-C; this one answers it after the block."""
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
