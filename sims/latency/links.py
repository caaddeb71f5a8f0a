"""Networks of the latency laboratory: as processes, and the time they take by formula."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from sims.latency.model import exchange_seconds
from sims.load.network import NETWORKS, RETRANSMISSION_SECONDS, SEGMENT_BYTES, network_named
from sims.processes.children import Children

LOOPBACK = "loopback"


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
