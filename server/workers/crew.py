"""The worker processes of a server, and the bounded queue of requests for them.

A request goes to an idle worker at once, or waits in a queue that is kept short: what could not
be answered soon is refused at once, because a caller who is told to come back in 50 ms is served
better than one who waits for seconds behind others. Callers take turns in it, and one who took
little lately may always wait beside one who took much: if it were sent away, the other's next
request would take the worker.
"""

import asyncio
import logging
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self, final

from common.errors import VicinalError
from server.workers.fair_queue import CALLER, FairQueue, Shares, Waiting
from server.workers.frames import Call, WorkerLostError, WorkerResult
from server.workers.hung import Watch, patience
from server.workers.process import WorkerProcess, start_worker
from server.workers.tarpit import Tarpit

# How fast the expected time of a call follows the measured ones.
SMOOTHING: Final = 0.1
LEAST_RETRY_SECONDS: Final = 0.01
# Between attempts to replace a worker whose replacement ended at its start.
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class SaturatedError(Exception):
    """The queue is full; room is expected in `retry_seconds`."""

    def __init__(self, waiting: int, retry_seconds: float) -> None:
        super().__init__(f"{waiting} requests wait")
        self.waiting = waiting
        self.retry_seconds = retry_seconds


@dataclass(frozen=True)
class QueueLimits:
    """When a request is refused instead of queued; whichever comes first.

    length   requests that wait
    seconds  that a new one would wait, judged by how long calls like those under way and those
             before it took before; a call that takes longer itself may wait as long as it takes
    """

    length: int = 64
    seconds: float = 0.02


@final
class Crew:
    """Worker processes from entry to exit; an async context manager, in one event loop.

    workers   how many
    compiled  whether they fine-tune in compiled loops (server.recommending.compiled)
    alive     how many are ready now
    lost      how many have ended by themselves or by others, or hung and were killed

    `some_alive` and `none_alive` are set while that is so.
    """

    def __init__(
        self, folder: Path, *, workers: int, limits: QueueLimits, compiled: bool = False
    ) -> None:
        self._folder = folder
        self._workers = workers
        self._limits = limits
        self._compiled = compiled
        self._idle: list[WorkerProcess] = []
        self._queue: FairQueue[WorkerProcess] = FairQueue()
        self._shares = Shares()
        self._tarpit = Tarpit()
        self._expected: dict[tuple[Call, str], float] = {}
        self._members: set[WorkerProcess] = set()
        # When those who work are expected to have answered.
        self._due: dict[WorkerProcess, float] = {}
        self._tasks: set[asyncio.Task[WorkerResult]] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self.lost = 0
        self.some_alive, self.none_alive = asyncio.Event(), asyncio.Event()

    @property
    def alive(self) -> int:
        return len(self._members)

    @property
    def pids(self) -> frozenset[int]:
        """Of the workers that are ready now."""
        return frozenset(worker.pid for worker in self._members)

    @property
    def depth(self) -> int:
        """Requests that wait for a worker."""
        return len(self._queue)

    async def __aenter__(self) -> Self:
        """Raises VicinalError when a worker cannot be started; none is left then."""
        starting = (
            start_worker(self._folder, compiled=self._compiled) for _ in range(self._workers)
        )
        started = await asyncio.gather(*starting, return_exceptions=True)
        for worker in started:
            if isinstance(worker, WorkerProcess):
                self._join(worker)
                self._keepers.append(asyncio.create_task(self._keep(worker)))
                self._release(worker)
        if self.alive < self._workers:
            await self._end()
            cause = next(one for one in started if isinstance(one, BaseException))
            raise VicinalError(
                "a worker process ended before it was ready; its last lines say why"
            ) from cause
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._end()

    async def ask(self, call: Call, preset: str, request: bytes) -> WorkerResult:
        """A worker's answer to CALLER. One who is canceled while waiting leaves the queue.

        Raises SaturatedError, WorkerLostError.
        """
        begun, caller = time.perf_counter(), CALLER.get()
        try:
            worker = await self._turn((call, preset), caller)
        except SaturatedError:
            await self._tarpit.hold(caller)
            raise
        self._shares.begin(caller)
        queued = time.perf_counter() - begun
        expected = self._expected.get((call, preset))
        self._due[worker] = begun + queued + (expected or 0.0)
        # A task of its own: an answer must be read from the socket though its caller has left.
        exchange = asyncio.create_task(self._exchange(worker, call, preset, request, caller))
        self._tasks.add(exchange)
        exchange.add_done_callback(self._forget)
        return replace(await asyncio.shield(exchange), queued=queued)

    def _forget(self, exchange: "asyncio.Task[WorkerResult]") -> None:
        self._tasks.discard(exchange)
        # Asked for, so that nobody complains of what a caller who has left does not ask for.
        if not exchange.cancelled():
            exchange.exception()

    async def _turn(self, kind: tuple[Call, str], caller: Hashable) -> WorkerProcess:
        if self._idle:
            return self._idle.pop()
        self._admit(kind, caller)
        waiting: Waiting[WorkerProcess] = Waiting(caller, self._expected.get(kind, 0.0))
        self._queue.append(waiting)
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._queue.remove(waiting)
            turn = waiting.turn
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release(turn.result())
            raise

    def _admit(self, kind: tuple[Call, str], caller: Hashable) -> None:
        """Raises SaturatedError when a new request would wait too long."""
        now = time.perf_counter()
        under_way = sum(max(0.0, due - now) for due in self._due.values())
        wait = (under_way + self._queue.seconds_before(caller)) / max(1, self.alive)
        own = self._expected.get(kind, 0.0)
        refusal = SaturatedError(len(self._queue), max(wait, LEAST_RETRY_SECONDS))
        if wait > max(self._limits.seconds, own):
            took = self._shares.recent(caller) + (self._queue.of(caller) + 1) * own
            if not self._shares.greedy_beside(took, self._queue.callers):
                raise refusal
        if len(self._queue) >= self._limits.length:
            last = self._queue.pushed_out(caller)
            if last is None:
                raise refusal
            last.turn.set_exception(refusal)

    async def _exchange(
        self, worker: WorkerProcess, call: Call, preset: str, request: bytes, caller: Hashable
    ) -> WorkerResult:
        begun = time.perf_counter()
        watch = Watch(worker, patience(self._expected.get((call, preset))))
        try:
            answer = await worker.answer(call, request)
        finally:
            watch.end()
            self._shares.end(caller, time.perf_counter() - begun)
            del self._due[worker]
            self._release(worker)
        took = time.perf_counter() - begun
        before = self._expected.setdefault((call, preset), took)
        self._expected[call, preset] = before + SMOOTHING * (took - before)
        return answer

    def _join(self, worker: WorkerProcess) -> None:
        self._members.add(worker)
        self.none_alive.clear()
        self.some_alive.set()

    def _leave(self, worker: WorkerProcess) -> None:
        self._members.discard(worker)
        if not self._members:
            self.some_alive.clear()
            self.none_alive.set()

    def _release(self, worker: WorkerProcess) -> None:
        """Hand a worker to whoever has waited longest."""
        if worker.lost:
            return
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.turn.done():
                waiting.turn.set_result(worker)
                return
        self._idle.append(worker)

    async def _keep(self, worker: WorkerProcess) -> None:
        """Replace a worker whenever it ends."""
        while True:
            code = await worker.ended()
            self.lost += 1
            self._leave(worker)
            with suppress(ValueError):
                self._idle.remove(worker)
            _log.warning(
                "worker process %d ended (exit code %d): another is started", worker.pid, code
            )
            await worker.end()
            worker = await self._replacement()
            self._join(worker)
            self._release(worker)

    async def _replacement(self) -> WorkerProcess:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await start_worker(self._folder, compiled=self._compiled)
            except (WorkerLostError, OSError):
                _log.exception("a worker process could not be replaced")
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _end(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self._members))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._members.clear()
