"""Ports, health and the end of a server."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.link.connection import Connection
from common.errors import InputError, VicinalError
from common.wire.service import SERVICE_NAME
from tests.support.serving import Endpoint, Misbehaving, make_scene


def health(address: str, name: str) -> int:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        status: int = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status
        return status


def test_health_says_serving(tmp_path: Path) -> None:
    assert SERVICE_NAME == "vicinal.v1.Offload"
    with Endpoint(make_scene(tmp_path).service()) as endpoint:
        for name in ("", SERVICE_NAME):
            assert health(endpoint.address, name) == health_pb2.HealthCheckResponse.SERVING


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    service = make_scene(tmp_path).service()
    with (
        Endpoint(service) as endpoint,
        pytest.raises(InputError, match=f"port {endpoint.port} on 127.0.0.1 is in use"),
    ):
        Endpoint(service, port=endpoint.port)


def test_a_port_is_free_again_after_a_drain(tmp_path: Path) -> None:
    service = make_scene(tmp_path).service()
    with Endpoint(service) as first, Connection(first.address) as connection:
        connection.describe()
    with Endpoint(service, port=first.port), Connection(first.address) as connection:
        assert connection.describe() == service.versions.current.description


def test_a_drain_lets_a_call_under_way_finish_and_takes_no_more(tmp_path: Path) -> None:
    begun, released = Event(), Event()

    def hold() -> None:
        begun.set()
        assert released.wait(60)

    service = make_scene(tmp_path).service()
    endpoint = Endpoint(Misbehaving(service, before=hold))
    with Connection(endpoint.address) as connection, ThreadPoolExecutor(2) as pool:
        under_way = pool.submit(connection.recommend, connection.describe(), 3, "paper")
        assert begun.wait(60)
        drained = pool.submit(endpoint.drain, 60)
        # While it drains, others find no server.
        deadline = time.monotonic() + 60
        refused = False
        while not refused and time.monotonic() < deadline:
            try:
                with Connection(endpoint.address, patience=0.5) as other:
                    other.describe()
            except VicinalError:
                refused = True
        assert refused and not drained.done()
        released.set()
        assert len(under_way.result(timeout=60)) == 10
        drained.result(timeout=60)


def test_a_drain_does_not_wait_for_ever(tmp_path: Path) -> None:
    begun, released = Event(), Event()
    ended: list[bool] = []

    def hold() -> None:
        begun.set()
        ended.append(released.wait(60))

    endpoint = Endpoint(Misbehaving(make_scene(tmp_path).service(), before=hold))
    try:
        with Connection(endpoint.address, patience=3) as connection, ThreadPoolExecutor(1) as pool:
            stuck = pool.submit(connection.recommend, connection.describe(), 3, "paper")
            assert begun.wait(60)
            endpoint.drain(grace=0.2)
            assert ended == [], "it waited for the call"
            with pytest.raises(VicinalError, match="no answer"):
                stuck.result(timeout=60)
    finally:
        released.set()
