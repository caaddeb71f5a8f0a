"""Work shared out to the machines of a Ray cluster, as sims.processes.pools does to processes.

Each core of the cluster gets a process of its own, which is told once what all calls need. A
machine that is lost gives its calls back to the others, and so does a process that ends.
"""

import gc
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, TypeVar, final

from common.errors import VicinalError
from common.processes import Pinned
from common.text import one_line
from common.threads import limit_threads
from sims.processes.marked import interruptible
from sims.processes.ray_session import LIBRARY, ray_session, shipped
from sims.recorded import code_versions

R = TypeVar("R")
Call = tuple[Any, ...]
# A call that was lost so often is what ends its process.
MOST_LOST: Final = 3
# Of each worker, so that it need not wait for the next one.
UNDER_WAY: Final = 2
# For a worker without work to give up what it has made, temporary files among it.
CLEAR_SECONDS: Final = 5.0
# In place of a call: a worker that has not begun yet.
STARTING: Final = -1
# Until every machine has said what it runs; a process starts for it.
ANSWER_SECONDS: Final = 120.0
_COLORS: Final = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def ray_cluster(address: str) -> Iterator["RayCluster"]:
    """The cluster at an address, connected in the block; nothing of ours is left there after it.

    Raises InputError when it is not there, VicinalError where a machine has another version of
    Python, vicinal or a library than this one.
    """
    with interruptible(), ray_session(processes=0, address=address) as ray:
        cluster = RayCluster(ray, address)
        cluster.require_same_code()
        yield cluster


@final
class RayCluster:
    """A cluster that this process is connected to."""

    def __init__(self, ray: Any, address: str) -> None:
        self.ray, self.address = ray, address

    @property
    def cores(self) -> int:
        """Of all its machines."""
        return int(self.ray.cluster_resources().get("CPU", 1))

    def require_same_code(self) -> None:
        """Raises VicinalError for a machine whose counts could be others."""
        here, ray = code_versions(), self.ray
        ask = ray.remote(num_cpus=0, max_retries=1)(shipped(code_versions))
        asked = []
        for node in ray.nodes():
            if node["Alive"]:
                on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                    node["NodeID"], soft=False
                )
                answer = ask.options(scheduling_strategy=on).remote()
                asked.append((node["NodeManagerAddress"], answer))
        for machine, answer in asked:
            try:
                there = ray.get(answer, timeout=ANSWER_SECONDS)
            except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
                continue  # lost since it was listed
            except ray.exceptions.RayError as error:
                raise self._failed(error, f"vicinal does not run on {machine}: ") from error
            other = [name for name in here if there.get(name) != here[name]]
            if other:
                name = other[0]
                raise VicinalError(
                    f"Ray at {self.address}: {machine} has {name} {there.get(name, 'not at all')}, "
                    f"this machine {here[name]}: install the same everywhere"
                )

    def each(
        self,
        function: Callable[..., R],
        calls: Sequence[Call],
        *,
        start: Callable[..., Any],
        arguments: Call,
        arrived: Callable[[R], None],
    ) -> list[R]:
        """As Workers.each(). Raises VicinalError when a call fails or is lost again and again."""
        ray = self.ray
        # Once in each machine's memory, whatever the number of its processes.
        kept = ray.put(arguments)
        worker = ray.remote(num_cpus=1, max_restarts=0)(_worker(function, start))
        run = _Run(ray, lambda: worker.remote(kept), calls)
        for _ in range(max(1, min(self.cores, len(calls)))):
            run.begin()
        try:
            while len(run.results) < len(calls):
                run.hand_out()
                done = run.awaited()
                if done is not None:
                    arrived(run.results[done])
        except ray.exceptions.RayError as error:
            raise self._failed(error) from error
        finally:
            run.stop()
        return [run.results[at] for at in range(len(calls))]

    def hosted(
        self, function: Callable[..., R], *, start: Callable[..., Any], arguments: Call
    ) -> "Hosted":
        """A process on this machine that workers on all of them can ask; it ends with the block."""
        on = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self.ray.get_runtime_context().get_node_id(), soft=False
        )
        host = self.ray.remote(num_cpus=0, scheduling_strategy=on)(_worker(function, start))
        return Hosted(host.remote(arguments))

    def _failed(self, error: Exception, what: str = "") -> VicinalError:
        cause = getattr(error, "cause", None)
        if isinstance(cause, VicinalError):
            return cause
        return VicinalError(f"Ray at {self.address}: {what}{last_line(error)}")


@final
class Hosted:
    """Asked by calling it, in a worker."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __call__(self, *given: Any) -> Any:
        return import_module(LIBRARY).get(self._actor.call.remote(*given))


@final
class _Run:
    """Calls on their way to workers, and back where a worker is lost.

    worker  a function that starts one
    busy    calls of each worker that has begun
    lost    how often each call was, and each worker before it began
    """

    def __init__(self, ray: Any, worker: Callable[[], Any], calls: Sequence[Call]) -> None:
        self._ray, self._worker, self._calls = ray, worker, calls
        self._waiting, self._lost = deque(range(len(calls))), Counter[Any]()
        self._busy = Counter[Any]()
        self._running: dict[Any, tuple[int, Any]] = {}
        self.results: dict[int, Any] = {}

    def begin(self, lost: int = 0) -> None:
        """Start a worker, which gets calls once it has begun: perhaps there is no core for it.

        lost  workers that it stands in for, none of which had begun
        """
        actor = self._worker()
        self._lost[actor] = lost
        self._running[actor.ready.remote()] = STARTING, actor

    def hand_out(self) -> None:
        """Calls to workers that could be idle."""
        for actor in sorted(self._busy, key=self._busy.__getitem__):
            while self._waiting and self._busy[actor] < UNDER_WAY:
                at = self._waiting.popleft()
                self._running[actor.call.remote(*self._calls[at])] = at, actor
                self._busy[actor] += 1

    def awaited(self) -> int | None:
        """The next call that has a result; None where a worker has begun or was lost.

        Raises Ray's error when a call fails or is lost again and again.
        """
        (done,), _ = self._ray.wait(list(self._running), num_returns=1)
        at, actor = self._running.pop(done)
        try:
            result = self._ray.get(done)
        except self._ray.exceptions.RayActorError:
            lost = actor if at == STARTING else at
            self._lost[lost] += 1
            if self._lost[lost] == MOST_LOST:
                raise
            if at == STARTING:
                self.begin(self._lost[actor])
            else:
                self._waiting.appendleft(at)
                if self._busy.pop(actor, None) is not None:
                    self.begin()
            return None
        if at == STARTING:
            self._busy[actor] = 0
            return None
        self._busy[actor] -= 1
        self.results[at] = result
        return at

    def stop(self) -> None:
        """Every worker, whatever it does; those that do nothing may clear up first."""
        working = {actor for _, actor in self._running.values()}
        cleared = [actor.clear.remote() for actor in self._busy.keys() - working]
        if cleared:
            self._ray.wait(cleared, num_returns=len(cleared), timeout=CLEAR_SECONDS)
        for actor in working | set(self._busy):
            self._ray.kill(actor)


def _worker(function: Callable[..., Any], start: Callable[..., Any]) -> type:
    """What Ray keeps in a process; pickled by its contents, so that it finds our code first."""
    call, begin, limit = Pinned(function), Pinned(start), Pinned(limit_threads)

    class Worker:
        def __init__(self, arguments: Call) -> None:
            limit()
            self._made = begin(*arguments)

        def ready(self) -> None:
            """Answered once `start` has ended."""

        def call(self, *given: Any) -> Any:
            return call(self._made, *given)

        def clear(self) -> None:
            """Nothing is called after this."""
            self._made = None
            gc.collect()

    # A process that has two classes of one name runs the later one's methods for both.
    Worker.__qualname__ = f"Worker.{function.__module__}.{function.__qualname__}"
    return Worker


def last_line(error: BaseException) -> str:
    """What happened, of a whole traceback of Ray's, which is in colors."""
    lines = _COLORS.sub("", str(error)).strip().splitlines()
    return one_line(lines[-1]) if lines else type(error).__name__
