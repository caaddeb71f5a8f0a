"""Work shared out to the machines of a Ray cluster, as sims.processes.pools does to processes.

Each core of the cluster gets a process of its own, which is told once what all calls need. A
machine that is lost gives its calls back to the others, and so does a process that ends.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from common.errors import VicinalError
from common.processes import Pinned
from common.text import one_line
from common.threads import limit_threads
from sims.processes.marked import interruptible
from sims.processes.ray_session import ray_session

R = TypeVar("R")
Call = tuple[Any, ...]
# A call that was lost so often is what ends its process.
MOST_LOST: Final = 3


def on_ray(
    function: Callable[..., R],
    calls: Sequence[Call],
    *,
    address: str,
    start: Callable[..., None],
    arguments: Call,
    arrived: Callable[[R], None] = lambda _result: None,
) -> list[R]:
    """As in_processes(), on the cluster at an address.

    Raises VicinalError when it is not there, and when a call fails or is lost again and again.
    """
    with interruptible(), ray_session(processes=0, address=address) as ray:
        # Once in each machine's memory, whatever the number of its processes.
        kept = ray.put(arguments)
        worker = ray.remote(num_cpus=1, max_restarts=0)(_worker(function, start))
        cores = int(ray.cluster_resources().get("CPU", 1))
        free = [worker.remote(kept) for _ in range(max(1, min(cores, len(calls))))]
        waiting, lost = deque(range(len(calls))), Counter[int]()
        running: dict[Any, tuple[int, Any]] = {}
        results: dict[int, R] = {}
        while waiting or running:
            while free and waiting:
                at, actor = waiting.popleft(), free.pop()
                running[actor.call.remote(*calls[at])] = at, actor
            (done,), _ = ray.wait(list(running), num_returns=1)
            at, actor = running.pop(done)
            try:
                results[at] = ray.get(done)
            except ray.exceptions.RayActorError as error:
                lost[at] += 1
                if lost[at] == MOST_LOST:
                    raise VicinalError(f"Ray at {address}: {_last_line(error)}") from error
                waiting.appendleft(at)
                # Its core may be gone with it: one that waits for a core would keep its call.
                if not (free or running):
                    free.append(worker.remote(kept))
            except ray.exceptions.RayError as error:
                raise VicinalError(f"Ray at {address}: {_last_line(error)}") from error
            else:
                free.append(actor)
                arrived(results[at])
        return [results[at] for at in range(len(calls))]


def _worker(function: Callable[..., Any], start: Callable[..., None]) -> type:
    """What Ray keeps in a process; pickled by its contents, so that it finds our code first."""
    call, begin, limit = Pinned(function), Pinned(start), Pinned(limit_threads)

    class Worker:
        def __init__(self, arguments: Call) -> None:
            limit()
            begin(*arguments)

        def call(self, *given: Any) -> Any:
            return call(*given)

    return Worker


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1])[:300] if lines else type(error).__name__
