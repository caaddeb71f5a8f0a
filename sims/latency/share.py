"""Limit a process to a share of a core, without privileges: let it run and stop, in turn.

SIGCONT and SIGSTOP in periods of 5 ms. How long it ran is measured, and the stop made as long as
the share asks, so that a late clock changes the period and not the share. A control group's
`cpu.max` would do the same in the kernel; it needs rights that few users have.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from common.errors import InputError

PERIOD_SECONDS: Final = 0.005


def check_share(share: float) -> None:
    """Raises InputError for what is no share of a core."""
    if not 0 < share <= 1:
        raise InputError(
            f"device share {share:g}: a share of a core lies above 0 and is at most 1, as in 0.25"
        )


@contextmanager
def limited(pid: int, share: float) -> Iterator[None]:
    """In the block, the process `pid` runs that share of the time; afterwards it runs freely.

    Only for a child of this process that has not been waited for: its id is nobody else's.
    Raises InputError.
    """
    check_share(share)
    if share == 1:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_alternate, args=(pid, share, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _signal(pid, signal.SIGCONT)


def _alternate(pid: int, share: float, over: threading.Event) -> None:
    while not over.is_set():
        begun = time.perf_counter()
        _signal(pid, signal.SIGCONT)
        over.wait(share * PERIOD_SECONDS)
        _signal(pid, signal.SIGSTOP)
        ran = time.perf_counter() - begun
        over.wait(ran * (1 - share) / share)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
