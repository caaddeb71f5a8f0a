"""The load generator's calls, against a real server: the same statuses as gRPC's own client."""

import select
import socket
from collections.abc import Iterator

import pytest

from common.wire import offload_pb2 as wire
from sims.load.http2 import Calls, ProtocolError
from tests.support.serving import Endpoint, Scene, make_scene

METHOD = "/vicinal.v1.Offload/Recommend"
OK, NOT_FOUND, RESOURCE_EXHAUSTED = 0, 5, 8


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def ended(calls: Calls, count: int) -> Iterator[tuple[int, int]]:
    while count:
        unsent = [calls.socket] if calls.flush() else []
        readable, writable, _ = select.select([calls.socket], unsent, [], 30)
        assert readable or writable, "nothing came"
        if readable:
            for one in calls.receive():
                count -= 1
                yield one.token, one.status


def test_calls_end_with_the_status_of_the_server(scene: Scene) -> None:
    version = scene.description().version
    with Endpoint(scene.service(refusals=2)) as endpoint:
        calls = Calls(endpoint.address, METHOD, timeout_seconds=30)
        for token, user in ((7, 0), (8, 1)):
            request = wire.RecommendRequest(version=version, user=user, preset="paper")
            calls.ask(token, request.SerializeToString())
        assert calls.under_way == 2
        assert sorted(ended(calls, 2)) == [(7, RESOURCE_EXHAUSTED), (8, RESOURCE_EXHAUSTED)]
        for token, user in ((1, 3), (2, 10**6)):
            request = wire.RecommendRequest(version=version, user=user, preset="paper")
            calls.ask(token, request.SerializeToString())
        assert sorted(ended(calls, 2)) == [(1, OK), (2, NOT_FOUND)]
        assert calls.under_way == 0
        calls.close()


# As many as a connection may have under way.
CALLS = 30


def test_more_calls_than_the_window_holds_all_end(scene: Scene) -> None:
    # 65535 bytes may be under way; this is three times as much, which the server does not know.
    request = wire.RecommendRequest(version="x" * 7000, user=0, preset="paper").SerializeToString()
    with Endpoint(scene.service()) as endpoint:
        calls = Calls(endpoint.address, METHOD, timeout_seconds=60)
        for token in range(CALLS):
            calls.ask(token, request)
        found = dict(ended(calls, CALLS))
        calls.close()
    assert len(found) == CALLS and set(found.values()) == {9}


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + body


HEADERS, RST_STREAM, SETTINGS, GOAWAY = 1, 3, 4, 7
STATUS_0 = b"\0\x0bgrpc-status\x010"


def test_resets_and_limits_of_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        calls = Calls(f"127.0.0.1:{listening.getsockname()[1]}", METHOD, timeout_seconds=30)
        accepted, _ = listening.accept()
        calls.ask(0, b"")
        # No second stream at a time; the first ends, and is reset after its end, which is legal.
        accepted.sendall(
            frame(SETTINGS, 0, 0, b"\0\3\0\0\0\1")
            + frame(HEADERS, 5, 1, STATUS_0)
            + frame(RST_STREAM, 0, 1, bytes(4))
        )
        assert list(ended(calls, 1)) == [(0, OK)]
        accepted.recv(1 << 16)
        for token in (1, 2):
            calls.ask(token, b"")
        calls.flush()
        assert accepted.recv(1 << 16).count(METHOD.encode()) == 1
        # Refused: nobody has looked at it. It is asked again, before the one that waits.
        accepted.sendall(frame(RST_STREAM, 0, 3, (7).to_bytes(4)))
        select.select([calls.socket], [], [], 30)
        assert list(calls.receive()) == [] and calls.under_way == 2
        calls.flush()
        assert accepted.recv(1 << 16).count(METHOD.encode()) == 1
        accepted.sendall(frame(HEADERS, 5, 5, STATUS_0))
        assert list(ended(calls, 1)) == [(1, OK)]
        calls.flush()
        assert accepted.recv(1 << 16).count(METHOD.encode()) == 1
        accepted.sendall(frame(RST_STREAM, 0, 7, (11).to_bytes(4)))
        assert list(ended(calls, 1)) == [(2, RESOURCE_EXHAUSTED)]
        accepted.close()
        calls.close()


@pytest.mark.parametrize(
    "said, message",
    [
        (frame(RST_STREAM, 0, 1, (2).to_bytes(4)), "error code 2"),
        (frame(GOAWAY, 0, 0, bytes(8) + b"too_many_pings"), "too_many_pings"),
        (frame(HEADERS, 5, 1, b"\x88"), "without a status"),
    ],
)
def test_what_breaks_a_call_off_is_an_error(said: bytes, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        calls = Calls(f"127.0.0.1:{listening.getsockname()[1]}", METHOD, timeout_seconds=30)
        accepted, _ = listening.accept()
        calls.ask(0, b"")
        accepted.sendall(said)
        with pytest.raises(ProtocolError, match=message):
            list(ended(calls, 1))
        accepted.shutdown(socket.SHUT_RDWR)
        accepted.close()
        with pytest.raises((ProtocolError, ConnectionError)):
            list(ended(calls, 1))
        calls.close()
