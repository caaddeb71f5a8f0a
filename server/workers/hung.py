"""Detection of hung workers, as opposed to slow ones: they are killed.

A worker on a machine that others keep busy may take a hundred times as long as it did before, and
killing it would make that worse. So time alone is no proof. A worker that neither runs nor waits
for a core is stuck; one that does is given its patience once more, in processor time.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final, final

from common.processes import process_status
from server.workers.process import WorkerProcess

# So many times as long as calls of that kind took before, but not less than so many seconds;
# where nothing is known of a kind, a minute.
FACTOR: Final = 10
LEAST_SECONDS: Final = 5.0
FIRST_SECONDS: Final = 60.0
_RUNNABLE: Final = "R"

_log = logging.getLogger(__name__)


def patience(expected: float | None) -> float:
    """Seconds after which a worker that has not answered is looked at."""
    return FIRST_SECONDS if expected is None else max(LEAST_SECONDS, FACTOR * expected)


@final
class Watch:
    """Looks at a worker after each `seconds`, until `end`, and kills it when it is hung.

    The kill ends its socket, and so whoever waits for its answer.
    """

    def __init__(self, worker: WorkerProcess, seconds: float) -> None:
        self._worker = worker
        self._seconds = seconds
        self._first: float | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._look)

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = running_seconds(self._worker.pid)
        self._first = now if self._first is None else self._first
        if now is not None and self._first is not None and now - self._first < self._seconds:
            self._timer = self._loop.call_later(self._seconds, self._look)
            return
        _log.warning("worker process %d does not answer: it is killed", self._worker.pid)
        self._worker.kill()


def running_seconds(pid: int) -> float | None:
    """Processor time of a process that runs or waits for a core; None for one that does neither.

    None also where the system has no /proc: there a worker is given its patience once.
    """
    with suppress(OSError):
        status = process_status(pid)
        if status.state == _RUNNABLE:
            return status.seconds
    return None
