"""What calls pass before they are answered, over real gRPC: token, user, rate, time."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from serving import USERS, Endpoint, InProcess, Misbehaving, Scene, make_scene

from client.channel import Access
from client.connection import AccessRefusedError, Connection
from client.session import Session
from client.version_store import VersionStore
from common.errors import VicinalError
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.messages import counts_to_wire
from common.wire.offload_pb2_grpc import OffloadStub
from server.gate import DEADLINE_TEXT, OTHER_USER_TEXT, RATE_TEXT, UNAUTHENTICATED_TEXT, Gate
from server.limits import BUDGET_TEXT, Budgeted, NeighborBudget, RateLimit
from server.metrics import Metrics
from server.service import OffloadService
from server.tokens import TokenKeys
from server.worker import Answerer

SECRET = "s" * 64
NOW = 1_800_000_000.0
Clock = list[float]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def make_gate(
    scene: Scene,
    keys: TokenKeys | None = None,
    rate: RateLimit | None = None,
    *,
    seconds: float = 60.0,
) -> Gate:
    return Gate(
        Metrics(scene.description()),
        users=USERS,
        keys=keys,
        rate=rate,
        call_seconds=seconds,
        stream_seconds=seconds,
    )


@contextmanager
def stub_of(scene: Scene, gate: Gate) -> Iterator[Any]:
    with (
        Endpoint(scene.service(), gates=[gate]) as endpoint,
        grpc.insecure_channel(endpoint.address) as channel,
    ):
        yield OffloadStub(channel)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def requests(scene: Scene, user: int) -> dict[str, object]:
    """One of each call that needs a token."""
    version = scene.description().version
    counts = counts_to_wire(Counts.none(2))
    return {
        "GetPackage": wire.PackageRequest(version=version, user=user, preset="paper"),
        "Recommend": wire.RecommendRequest(version=version, user=user, preset="paper"),
        "Report": wire.ReportRequest(version=version, preset="paper", key="k", counts=counts),
    }


def status(stub: Any, call: str, request: object, **how: Any) -> tuple[grpc.StatusCode, str]:
    try:
        getattr(stub, call)(request, timeout=20, **how)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED, UNAUTHENTICATED_TEXT
OTHER_USER = grpc.StatusCode.PERMISSION_DENIED, OTHER_USER_TEXT


def test_a_token_opens_its_own_users_and_nothing_else(scene: Scene) -> None:
    clock: Clock = [NOW]
    keys = TokenKeys({"k": SECRET}, clock=lambda: clock[0])
    token = keys.token(range(7, 8), days=1)
    with stub_of(scene, make_gate(scene, keys)) as stub:
        for call, request in requests(scene, 7).items():
            assert status(stub, call, request, metadata=bearer(token))[0] == grpc.StatusCode.OK
        # Of another user and of one who is not there it says the same.
        for user in (8, USERS, 1_000_000):
            for call in ("GetPackage", "Recommend"):
                asked = requests(scene, user)[call]
                assert status(stub, call, asked, metadata=bearer(token)) == OTHER_USER
        wide = keys.token(range(1 << 32), days=1)
        asked = requests(scene, USERS)["GetPackage"]
        assert status(stub, "GetPackage", asked, metadata=bearer(wide)) == OTHER_USER
        # Replayed after its time.
        clock[0] += 86_400
        for call, request in requests(scene, 7).items():
            assert status(stub, call, request, metadata=bearer(token)) == UNAUTHENTICATED


def test_nothing_but_one_good_token_is_taken_and_no_reason_is_given(scene: Scene) -> None:
    keys = TokenKeys({"k": SECRET})
    good = keys.token(range(7, 8), days=1)
    forged = TokenKeys({"k": "t" * 64}).token(range(7, 8), days=1)
    wrong: list[tuple[tuple[str, str], ...]] = [
        (),
        bearer(""),
        bearer(forged),
        bearer(good[:-1]),
        bearer(good.replace(".", "", 1)),
        bearer("a" * 4000),
        (("authorization", good),),
        (("authorization", f"Basic {good}"),),
        (*bearer(good), *bearer(good)),
        (*bearer(good), *bearer(forged)),
    ]
    with stub_of(scene, make_gate(scene, keys)) as stub:
        for metadata in wrong:
            for call, request in requests(scene, 7).items():
                assert status(stub, call, request, metadata=metadata) == UNAUTHENTICATED
        lower = (("authorization", f"bearer {good}"),)
        asked = requests(scene, 7)["GetPackage"]
        assert status(stub, "GetPackage", asked, metadata=lower)[0] == grpc.StatusCode.OK
        # What says nothing of anybody stays open, so that a device can learn what is served.
        assert stub.Describe(wire.DescribeRequest(), timeout=20).user_count == USERS


def test_a_device_sends_its_token_and_says_when_it_is_not_taken(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = TokenKeys({"k": SECRET})
    path = tmp_path / "token"
    path.write_text(keys.token(range(5, 10), days=1) + "\n")
    caplog.set_level(logging.DEBUG)
    with Endpoint(scene.service(), gates=[make_gate(scene, keys)]) as endpoint:
        with Connection(endpoint.address, access=Access(token=path)) as connection:
            description = connection.describe()
            assert len(connection.package(description, 5, "paper").neighborhood) == 6
            assert connection.report(description, "paper", "key", Counts.none(2))
            with pytest.raises(AccessRefusedError, match=OTHER_USER_TEXT):
                connection.recommend(description, 4, "paper")
        with (
            Connection(endpoint.address) as connection,
            pytest.raises(AccessRefusedError, match=UNAUTHENTICATED_TEXT),
        ):
            connection.package(description, 5, "paper")
    secret = path.read_text().strip()
    assert secret not in caplog.text and SECRET not in caplog.text


def test_a_report_that_its_token_did_not_outlive_is_sent_with_the_next(
    scene: Scene, tmp_path: Path
) -> None:
    clock: Clock = [NOW]
    keys = TokenKeys({"k": SECRET}, clock=lambda: clock[0])
    path = tmp_path / "token"

    def session(connection: Connection) -> Session:
        return Session(connection, VersionStore(tmp_path / "device"), scene.local, preset="paper")

    def a_day_passes() -> None:
        clock[0] += 86_400

    service = Misbehaving(scene.service(), before=a_day_passes)
    with Endpoint(service, gates=[make_gate(scene, keys)]) as endpoint:
        path.write_text(keys.token(range(7, 8), days=1))
        with Connection(endpoint.address, access=Access(token=path)) as connection:
            with pytest.raises(AccessRefusedError):
                list(session(connection).answer([7]))
            assert session(connection).send_pending() == 0
        path.write_text(keys.token(range(7, 8), days=1))
        with Connection(endpoint.address, access=Access(token=path)) as connection:
            assert session(connection).send_pending() == 1
            assert connection.tally(connection.describe(), "paper")[0] == 1


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


def test_reports_have_a_rate_of_their_own_by_token(scene: Scene) -> None:
    keys = TokenKeys({"k": SECRET})
    first, second = (bearer(keys.token(range(user, user + 1), days=1)) for user in (1, 2))
    rate = RateLimit(0.2, clock=lambda: NOW)
    report = requests(scene, 0)["Report"]
    with stub_of(scene, make_gate(scene, keys, rate)) as stub:
        codes = [status(stub, "Report", report, metadata=first)[0].name for _ in range(3)]
        assert codes == ["OK", "OK", "RESOURCE_EXHAUSTED"]
        assert status(stub, "Report", report, metadata=second)[0] == grpc.StatusCode.OK
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
            connection.package(description, 7, "paper")
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


def test_a_call_that_nothing_guards_does_not_exist(scene: Scene) -> None:
    async def chat(requests: AsyncIterator[bytes], context: object) -> bytes:
        raise AssertionError("reached")

    async def ask() -> grpc.RpcMethodHandler | None:
        gate = make_gate(scene)
        handler = grpc.stream_unary_rpc_method_handler(chat)

        async def continuation(details: object) -> grpc.RpcMethodHandler:
            return handler

        class Details:
            method = "/vicinal.v1.Offload/Chat"

        return await gate.intercept_service(continuation, Details())

    assert asyncio.run(ask()) is None


def test_a_budget_ends_a_device_in_one_line(scene: Scene) -> None:
    description = scene.description()
    answers = Budgeted(InProcess(Answerer(scene.recommender, description), 0), NeighborBudget(12))
    service = OffloadService(scene.catalog(), scene.tally(), answers, Metrics(description))
    with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
        # 11 neighbors of one user, and among them the 5 of the smaller preset.
        for preset in ("vicinal", "paper", "vicinal"):
            connection.package(description, 7, preset)
    spent = Budgeted(InProcess(Answerer(scene.recommender, description), 0), NeighborBudget(10))
    service = OffloadService(scene.catalog(), scene.tally(), spent, Metrics(description))
    with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
        connection.package(description, 7, "paper")
        with pytest.raises(VicinalError, match=BUDGET_TEXT) as caught:
            connection.package(description, 7, "vicinal")
        assert caught.value.exit_code == 1
        connection.package(description, 7, "paper")
        assert len(connection.recommend(description, 7, "vicinal")) == 10
