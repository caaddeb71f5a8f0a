"""What limits callers, over real gRPC: rates, time for a call, a budget of neighbors."""

import time
from pathlib import Path
from threading import Event

import grpc
import pytest
from prometheus_client import generate_latest

from client.link.connection import BudgetSpentError, Connection
from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadStub
from server.front.service import OffloadService
from server.metrics import Metrics
from server.trust.budgets import BUDGET_TEXT, BudgetedWorkers, NeighborBudget
from server.trust.gate import DEADLINE_TEXT, RATE_TEXT
from server.trust.limits import RateLimit
from server.trust.places import CallLimits
from server.trust.tokens import TokenKeys
from server.workers.worker import VersionHandler
from tests.support.gates import bearer, make_gate, requests, status, stub_of
from tests.support.serving import (
    SECRET as DEVICE_SECRET,
)
from tests.support.serving import (
    USERS,
    Endpoint,
    InProcess,
    Misbehaving,
    Scene,
    make_scene,
)

SECRET = "s" * 64
NOW = 1_800_000_000.0
Clock = list[float]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def test_a_rate_is_each_users_own_and_names_the_pause(scene: Scene) -> None:
    clock: Clock = [NOW]
    rate = RateLimit(0.5, clock=lambda: clock[0])
    with stub_of(scene, make_gate(scene, rate=rate)) as stub:
        ask = stub.GetPackage
        mine, other = requests(scene, 7)["GetPackage"], requests(scene, 8)["GetPackage"]
        for _ in range(5):
            ask(mine, timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            ask(mine, timeout=20)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == RATE_TEXT
        assert ("grpc-retry-pushback-ms", "2000") in caught.value.trailing_metadata()
        ask(other, timeout=20)
        clock[0] += 2
        ask(mine, timeout=20)
        # Users who are not there are not remembered.
        for user in range(USERS, USERS + 50):
            status(stub, "GetPackage", requests(scene, user)["GetPackage"])
        assert len(rate) == 2


def test_calls_of_a_token_and_of_an_address_are_limited_and_told_when_to_come_back(
    scene: Scene,
) -> None:
    keys = TokenKeys({"k": SECRET})
    first, second = (bearer(keys.token(range(user, user + 1), days=1)) for user in (1, 2))
    released, metrics = Event(), Metrics(scene.description())
    service = Misbehaving(scene.service(), before=lambda: assert_set(released))
    gate = make_gate(scene, keys, calls=CallLimits(100, 2, 1), metrics=metrics)
    with (
        Endpoint(service, gates=[gate]) as endpoint,
        grpc.insecure_channel(endpoint.address) as channel,
    ):
        stub = OffloadStub(channel)
        held = []
        for user, token in ((1, first), (2, second)):
            asked = requests(scene, user)["GetPackage"]
            held.append(stub.GetPackage.future(asked, timeout=60, metadata=token))
            deadline = time.monotonic() + 30
            while gate._places.count < user:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetPackage(asked, timeout=20, metadata=token)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert ("grpc-retry-pushback-ms", "500") in caught.value.trailing_metadata()
        # The address has no place either, not even for what needs no token.
        with pytest.raises(grpc.RpcError) as caught:
            stub.Describe(wire.DescribeRequest(), timeout=20)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        released.set()
        assert all(one.result(timeout=30).version for one in held)
        stub.Describe(wire.DescribeRequest(), timeout=20)
    page = generate_latest(metrics.registry).decode()
    assert 'vicinal_refused_total{reason="calls_token"} 2.0' in page
    assert 'vicinal_refused_total{reason="calls_peer"} 1.0' in page


def assert_set(released: Event) -> None:
    assert released.wait(60)


def test_reports_have_a_rate_of_their_own_by_token(scene: Scene) -> None:
    keys = TokenKeys({"k": SECRET})
    first, second = (bearer(keys.token(range(user, user + 1), days=1)) for user in (1, 2))
    rate = RateLimit(0.2, clock=lambda: NOW)
    report, other = requests(scene, 1)["Report"], requests(scene, 2)["Report"]
    with stub_of(scene, make_gate(scene, keys, rate)) as stub:
        codes = [status(stub, "Report", report, metadata=first)[0].name for _ in range(3)]
        assert codes == ["OK", "OK", "RESOURCE_EXHAUSTED"]
        assert status(stub, "Report", other, metadata=second)[0] == grpc.StatusCode.OK
        asked = requests(scene, 1)["GetPackage"]
        assert status(stub, "GetPackage", asked, metadata=first)[0] == grpc.StatusCode.OK


def test_a_device_waits_as_long_as_the_rate_says(scene: Scene) -> None:
    gate = make_gate(scene, rate=RateLimit(2.0))
    with (
        Endpoint(scene.service(), gates=[gate]) as endpoint,
        Connection(endpoint.address, patience=60) as connection,
    ):
        description = connection.describe()
        begun = time.monotonic()
        for _ in range(22):
            connection.package(description, 7, "paper", scene.local.own(7))
        assert time.monotonic() - begun > 0.4


def test_a_call_without_a_deadline_is_ended_by_the_server(scene: Scene) -> None:
    service = Misbehaving(scene.service(), before=lambda: time.sleep(3))
    with (
        Endpoint(service, gates=[make_gate(scene, seconds=0.5)]) as endpoint,
        grpc.insecure_channel(endpoint.address) as channel,
    ):
        stub = OffloadStub(channel)
        for timeout in (None, 1000):
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetPackage(requests(scene, 7)["GetPackage"], timeout=timeout)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert caught.value.details() == DEADLINE_TEXT


def test_a_reader_who_stalls_is_cut_off(tmp_path: Path) -> None:
    # 32 MiB: more than the transport holds for somebody who does not read.
    scene = make_scene(tmp_path, items=1 << 20)
    version = scene.description().version
    with (
        Endpoint(scene.service(), gates=[make_gate(scene, seconds=2.0)]) as endpoint,
        grpc.insecure_channel(
            endpoint.address,
            options=[("grpc.max_receive_message_length", -1), ("grpc.http2.bdp_probe", 0)],
        ) as channel,
    ):
        stream = OffloadStub(channel).FetchModel(wire.FetchModelRequest(version=version))
        next(stream)
        time.sleep(4)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_spent_budget_is_told_from_other_refusals(scene: Scene) -> None:
    description = scene.description()
    workers = BudgetedWorkers(
        InProcess(VersionHandler(scene.recommender, description, DEVICE_SECRET), 0),
        NeighborBudget(12),
    )
    service = OffloadService(scene.catalog(), scene.tally(), workers, Metrics(description))
    with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
        # 11 neighbors of one user, and among them the 5 of the smaller preset.
        for preset in ("vicinal", "paper", "vicinal"):
            connection.package(description, 7, preset, scene.local.own(7))
    spent = BudgetedWorkers(
        InProcess(VersionHandler(scene.recommender, description, DEVICE_SECRET), 0),
        NeighborBudget(10),
    )
    service = OffloadService(scene.catalog(), scene.tally(), spent, Metrics(description))
    with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
        connection.package(description, 7, "paper", scene.local.own(7))
        with pytest.raises(BudgetSpentError, match=BUDGET_TEXT):
            connection.package(description, 7, "vicinal", scene.local.own(7))
        connection.package(description, 7, "paper", scene.local.own(7))
        assert len(connection.recommend(description, 7, "vicinal")) == 10
