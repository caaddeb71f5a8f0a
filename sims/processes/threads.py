"""Work side by side in threads of this process, for what computes without Python's lock."""

from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

R = TypeVar("R")
# As sims.progress.Report: what is done, how much of it, and how much there is.
Told = Callable[[str, int, int], None]
# Python answers Ctrl-C when its main thread wakes (sims.processes.pools).
_WAKE_SECONDS = 0.5


class _StoppedError(Exception):
    """Of no interest: another thread failed before, or the program was interrupted."""


def in_threads(calls: Sequence[Callable[[Told], R]], progress: Told) -> list[R]:
    """The results of all calls, in order, a thread each.

    Each call is handed a function to report to. Where one fails or the program is interrupted, the
    others end when they next report something. Raises what the first that failed has raised.
    """
    stopped = Event()

    def report(what: str, done: int, total: int) -> None:
        if stopped.is_set():
            raise _StoppedError
        progress(what, done, total)

    with ThreadPoolExecutor(len(calls)) as pool:
        try:
            tasks = [pool.submit(call, report) for call in calls]
            pending = set(tasks)
            while pending:
                done, pending = futures.wait(pending, _WAKE_SECONDS, futures.FIRST_COMPLETED)
                for task in done:
                    task.result()
            return [task.result() for task in tasks]
        finally:
            stopped.set()
