"""One arithmetic thread a process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController, threadpool_limits

# Read by OpenBLAS, MKL, OpenMP and Accelerate once, when each is loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def limit_threads(count: int = 1) -> None:
    """Keep the numerical libraries of this process, and of those it starts, to `count` threads.

    Parallel work is done by processes, and the order in which a sum is taken depends on the
    threads that take it: one thread everywhere lets server and device give the same answer.
    The environment speaks to libraries not loaded yet, threadpoolctl to those that are, so
    it can be called at any time; what the caller's environment asked for is overruled.
    """
    for name in THREAD_VARIABLES:
        os.environ[name] = str(count)
    threadpool_limits(limits=count)


@contextmanager
def one_thread() -> Iterator[None]:
    """limit_threads() for a block of a program that is not ours, whose own threads come back."""
    libraries = ThreadpoolController().lib_controllers
    counts = [library.num_threads for library in libraries]
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    try:
        limit_threads()
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        for library, count in zip(libraries, counts, strict=True):
            library.set_num_threads(count)
