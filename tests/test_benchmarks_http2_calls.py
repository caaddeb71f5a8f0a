"""The load generator's calls, against a real server: the same statuses as gRPC's own client."""

import select
import socket
from collections.abc import Iterator

import pytest
from serving import Endpoint, Scene, make_scene

from benchmarks.http2_calls import Calls, ProtocolError
from common.wire import offload_pb2 as wire

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
                yield one


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


def test_more_calls_than_the_window_holds_all_end(scene: Scene) -> None:
    # 65535 bytes may be under way; this is three times as much, which the server does not know.
    request = wire.RecommendRequest(version="x" * 900, user=0, preset="paper").SerializeToString()
    with Endpoint(scene.service()) as endpoint:
        calls = Calls(endpoint.address, METHOD, timeout_seconds=60)
        for token in range(200):
            calls.ask(token, request)
        found = dict(ended(calls, 200))
        calls.close()
    assert len(found) == 200 and set(found.values()) == {9}


def test_what_is_no_server_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        calls = Calls(f"127.0.0.1:{listening.getsockname()[1]}", METHOD, timeout_seconds=30)
        accepted, _ = listening.accept()
        calls.ask(0, b"")
        calls.flush()
        # A response whose headers say no status.
        accepted.sendall(b"\0\0\1\1\5\0\0\0\1\x88")
        with pytest.raises(ProtocolError, match="without a status"):
            list(ended(calls, 1))
        accepted.shutdown(socket.SHUT_RDWR)
        accepted.close()
        with pytest.raises((ProtocolError, ConnectionError)):
            list(ended(calls, 1))
        calls.close()
