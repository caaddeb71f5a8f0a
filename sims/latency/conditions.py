"""What a device of the laboratory has: a network to the server, and a share of a core.

Networks are processes, and formulas for the time that they take. A share is held without
privileges: SIGCONT and SIGSTOP in periods of 5 ms. How long a process ran is measured, and the stop
made as long as the share asks, so that a late clock changes the period and not the share. A control
group's `cpu.max` would do the same in the kernel; it needs rights that few users have.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from sims.latency.model import exchange_seconds
from sims.load.network import NETWORKS, RETRANSMISSION_SECONDS, SEGMENT_BYTES, network_named
from sims.processes.children import Children

LOOPBACK = "loopback"
PERIOD_SECONDS: Final = 0.005


@contextmanager
def linked(children: Children, address: str, network: str, cores: tuple[int, ...]) -> Iterator[str]:
    """Where a server is found through a network: itself on loopback, else a proxy's address.

    Raises InputError for an unknown network, VicinalError when the proxy does not start.
    """
    network_named(network)
    if network == LOOPBACK:
        yield address
        return
    child = children.start("sims.load.network", network, address, name="network", cores=cores)
    try:
        yield child.line()
    finally:
        child.stop()


def carried(network: str, sent: float, received: float, *, count: int) -> NDArray[np.float64]:
    """Seconds of `count` exchanges of so many bytes each way; a lost segment is sent again.

    The same arguments give the same times. Raises InputError for an unknown network.
    """
    conditions = network_named(network)
    seconds = exchange_seconds(
        sent, received, rtt=conditions.round_trip, up=conditions.up, down=conditions.down
    )
    segments = sum(max(1, -(-int(size) // SEGMENT_BYTES)) for size in (sent, received))
    # Of each segment, how often it is lost before it arrives.
    tries = np.random.default_rng(0).geometric(1 - conditions.loss, (count, segments)) - 1
    again = conditions.round_trip + RETRANSMISSION_SECONDS
    late: NDArray[np.float64] = tries.max(axis=1) * again
    return seconds + late


def trip(network: str) -> float:
    """Seconds to the server and back."""
    return network_named(network).round_trip


def transfer(network: str, size: float) -> float:
    """Seconds that `size` bytes to a device take beside the trip. Losses are not among them."""
    return 8 * size / NETWORKS[network].down


def check_share(share: float) -> None:
    """Raises InputError for what is no share of a core."""
    if not 0 < share <= 1:
        raise InputError(
            f"device share {share:g}: a share of a core lies above 0 and is at most 1, as in 0.25"
        )


@contextmanager
def limited(pid: int, share: float) -> Iterator[None]:
    """In the block, the process `pid` runs that share of the time; afterwards it runs freely.

    Only for a child of this process that has not been waited for: no other process has its id.
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
