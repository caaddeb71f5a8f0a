"""Readers who ask for a model version and never read a byte of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import poll
from time import monotonic, sleep
from typing import Final

from client.link.connection import Connection
from common.wire import offload_pb2 as wire
from sims.load.http2 import Calls
from tests.faults.support.served import ONE_ADDRESS, ServedProcess

STREAMS: Final = 200
# Against hanging only.
WAIT_SECONDS: Final = 240.0
USERS: Final = 20
# Of the front, for each stalled stream: a few chunks of 64 KiB on their way to the system.
MOST_MIB: Final = 1.0
# A busy machine looks late at what is over.
SLACK_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Stalled:
    """Memory of the server's front in MiB; seconds until all streams were cut.

    answered  requests of others meanwhile; limit: seconds that the server gives a stream
    sent      MiB a stream that the front had handed over when it came to a halt
    """

    before: float
    while_stalled: float
    afterwards: float
    answered: int
    cut_after: float
    limit: float
    sent: float

    @property
    def good(self) -> bool:
        """Others were answered, memory is bounded, and the streams were cut before the limit."""
        bounded = self.while_stalled - self.before < MOST_MIB * STREAMS
        return bounded and self.answered == USERS and self.cut_after < self.limit + SLACK_SECONDS


@contextmanager
def stalled_streams(address: str, version: str) -> Iterator[list[Calls]]:
    """Streams with the largest window that there is, so that only the system holds them up."""
    request = wire.FetchModelRequest(version=version).SerializeToString()
    with ExitStack() as stack:
        opened = []
        for _ in range(STREAMS):
            calls = Calls(address, "/vicinal.v1.Offload/FetchModel", timeout_seconds=3600)
            stack.callback(calls.close)
            calls.ask(0, request)
            assert not calls.flush()
            opened.append(calls)
        yield opened


def stall(folder: Path, dataset: str, call_seconds: float) -> Stalled:
    """Stall all streams, ask for other things meanwhile, and wait until they are cut."""
    arguments = ("--dataset", dataset, "--preset", "paper", "--call-seconds", str(call_seconds))
    with (
        ServedProcess(folder, (*arguments, *ONE_ADDRESS)) as server,
        Connection(server.address) as connection,
    ):
        description = connection.describe()
        before = server.resident_mib()
        begun = monotonic()
        with stalled_streams(server.address, description.version) as streams:
            _wait(lambda: _readable(streams) == STREAMS)
            sent = _settled(server)
            held = server.resident_mib()
            answers = [connection.recommend(description, user, "paper") for user in range(USERS)]
            _wait(lambda: server.metric("vicinal_requests_total") >= STREAMS + USERS)
            cut_after = monotonic() - begun
        return Stalled(
            before,
            held,
            server.resident_mib(),
            sum(bool(items) for items in answers),
            cut_after,
            call_seconds + description.version_bytes / (64 << 10),
            sent / STREAMS / 2**20,
        )


def _readable(streams: Sequence[Calls]) -> int:
    waiting = poll()
    for calls in streams:
        waiting.register(calls.socket, 1)
    return len(waiting.poll(0))


def _settled(server: ServedProcess) -> float:
    """Bytes sent, once they are no longer more than a moment before."""
    before, sent = -1.0, server.metric("vicinal_sent_bytes_total")
    deadline = monotonic() + WAIT_SECONDS
    while sent > before:
        assert monotonic() < deadline
        sleep(1.0)
        before, sent = sent, server.metric("vicinal_sent_bytes_total")
    return sent


def _wait(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + WAIT_SECONDS
    while not holds():
        assert monotonic() < deadline
        sleep(0.1)
