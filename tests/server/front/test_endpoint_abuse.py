"""What a server does with strangers who ask for too much, over real sockets."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc
import pytest

from client.link.connection import Connection
from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadStub
from common.wire.service import MAX_REQUEST_BYTES
from server.front.doorman import DoorLimits
from server.front.endpoint import MAX_METADATA_BYTES, Listening
from server.trust.places import CallLimits
from tests.support.gates import make_gate
from tests.support.serving import Endpoint, Misbehaving, Scene, make_scene

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ENHANCE_YOUR_CALM = 11


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def endpoint(scene: Scene) -> Iterator[Endpoint]:
    with Endpoint(scene.service()) as opened:
        yield opened


def frame(kind: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


def read_frames(stream: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of HTTP/2 frames until the other end hangs up."""
    with stream.makefile("rb") as opened:
        while len(head := opened.read(9)) == 9:
            yield head[3], opened.read(int.from_bytes(head[:3], "big"))


def test_who_pings_without_end_is_disconnected(endpoint: Endpoint) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=20) as stream:
        # In one write: the server hangs up at the first that is too many.
        stream.sendall(PREFACE + frame(SETTINGS) + 20 * frame(PING, b"pingpong"))
        ends = [payload for kind, payload in read_frames(stream) if kind == GOAWAY]
    assert int.from_bytes(ends[-1][4:8], "big") == ENHANCE_YOUR_CALM
    with Connection(endpoint.address) as connection:
        connection.describe()


def refusal(address: str, request: object, **how: object) -> grpc.StatusCode:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        OffloadStub(channel).GetPackage(request, timeout=20, **how)
    code: grpc.StatusCode = caught.value.code()
    return code


def test_an_oversize_request_is_refused(endpoint: Endpoint) -> None:
    asked = wire.PackageRequest(version="x" * MAX_REQUEST_BYTES)
    assert refusal(endpoint.address, asked) == grpc.StatusCode.RESOURCE_EXHAUSTED
    with Connection(endpoint.address) as connection:
        connection.describe()


def test_oversize_metadata_is_refused(endpoint: Endpoint) -> None:
    large = (("authorization", "a" * (4 * MAX_METADATA_BYTES)),)
    code = refusal(endpoint.address, wire.PackageRequest(), metadata=large)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    with Connection(endpoint.address) as connection:
        connection.describe()


def test_calls_above_the_limit_are_refused_and_those_under_way_answered(scene: Scene) -> None:
    begun, released = Event(), Event()

    def hold() -> None:
        begun.set()
        assert released.wait(20)

    service = Misbehaving(scene.service(), before=hold)
    with (
        Endpoint(service, gates=[make_gate(scene, calls=CallLimits.of(1))]) as endpoint,
        Connection(endpoint.address, patience=30) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        description = connection.describe()
        under_way = pool.submit(connection.recommend, description, 3, "paper")
        assert begun.wait(10)
        request = wire.PackageRequest(version=description.version, user=1, preset="paper")
        assert refusal(endpoint.address, request) == grpc.StatusCode.RESOURCE_EXHAUSTED
        released.set()
        assert len(under_way.result(timeout=20)) == 10
        connection.describe()


def test_connections_above_the_limit_are_closed(scene: Scene) -> None:
    with Endpoint(scene.service(), listening=Listening(door=DoorLimits(connections=3))) as endpoint:
        opened = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(30)]
        try:
            for stream in opened:
                stream.settimeout(5)
                stream.sendall(PREFACE + frame(SETTINGS))
            assert sum(greeted(stream) for stream in opened) <= 3
        finally:
            for stream in opened:
                stream.close()
        deadline = time.monotonic() + 20
        with Connection(endpoint.address, patience=20) as connection:
            connection.describe()
        assert time.monotonic() < deadline


def greeted(stream: socket.socket) -> bool:
    try:
        return stream.recv(9) != b""
    except OSError:
        return False


def test_noise_harms_nobody(endpoint: Endpoint) -> None:
    for noise in (b"\x16\x03\x01\x02\x00" + b"\xff" * 600, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 999):
        with socket.create_connection(("127.0.0.1", endpoint.port), timeout=20) as stream:
            stream.sendall(PREFACE[:10] + noise)
            list(read_frames(stream))
    with Connection(endpoint.address) as connection:
        connection.describe()
