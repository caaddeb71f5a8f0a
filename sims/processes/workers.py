"""Who does the work that is shared out: this process, processes of this machine, or a Ray cluster.

Work is a function and its calls. What all calls need is made once in each worker, by `start`. What
comes of it does not depend on who did it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

from common.errors import InputError, VicinalError
from sims.processes.pools import in_processes
from sims.processes.ray_pool import RayCluster, ray_cluster

R = TypeVar("R")
Call = tuple[Any, ...]


def as_it_is(given: Any) -> Any:
    """A `start` for what needs no making."""
    return given


@final
@dataclass(frozen=True)
class Workers:
    """Where work is done.

    processes  of this machine; None is one a core, 1 this process itself
    cluster    whose cores do it instead
    """

    processes: int | None = None
    cluster: RayCluster | None = None

    @property
    def here(self) -> bool:
        """Whether this process does it all."""
        return self.cluster is None and self.processes == 1

    def each(
        self,
        function: Callable[..., R],
        calls: Sequence[Call],
        *,
        arguments: Call,
        start: Callable[..., Any] = as_it_is,
        arrived: Callable[[R], None] = lambda _result: None,
    ) -> list[R]:
        """The results of all calls, in their order: of function(made, *call), for `made`, which is
        start(*arguments).

        start    called once in each worker; `arguments` are in each machine's memory once
        arrived  called here with each result, in the order in which they come

        Raises VicinalError when a worker dies again and again, and what a call raises.
        """
        if self.cluster is not None:
            return self.cluster.each(
                function, calls, start=start, arguments=arguments, arrived=arrived
            )
        if self.here:
            return _here(function, calls, start(*arguments), arrived)
        try:
            return in_processes(
                _called,
                [(function, call) for call in calls],
                processes=self.processes,
                start=_begun,
                arguments=(start, arguments),
                arrived=arrived,
            )
        except BrokenProcessPool as error:
            raise VicinalError(
                "a worker process died, perhaps for want of memory: try fewer --processes"
            ) from error


HERE: Final = Workers(processes=1)
ALL_CORES: Final = Workers()


@contextmanager
def workers(
    processes: int | None, ray: str | None, *, usual: int | None = None
) -> Iterator[Workers]:
    """As two options name them: processes of this machine, or the address of a Ray cluster.

    usual  processes where neither is given

    Connected in the block. Raises InputError for both, and where there is no such cluster;
    VicinalError where one of its machines has another version of this code.
    """
    if ray is None:
        yield Workers(processes or usual)
        return
    if processes is not None:
        raise InputError("--ray shares work out: leave out --processes")
    with ray_cluster(ray) as cluster:
        yield Workers(cluster=cluster)


def _here(
    function: Callable[..., R], calls: Sequence[Call], made: Any, arrived: Callable[[R], None]
) -> list[R]:
    results = []
    for call in calls:
        results.append(function(made, *call))
        arrived(results[-1])
    return results


# What `start` has made, in a process that in_processes() started.
_made: Any = None


def _begun(start: Callable[..., Any], arguments: Call) -> None:
    global _made  # noqa: PLW0603 - a worker process has one
    _made = start(*arguments)


def _called(function: Callable[..., R], call: Call) -> R:
    return function(_made, *call)
