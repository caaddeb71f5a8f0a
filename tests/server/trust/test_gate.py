"""Whose calls are answered, over real gRPC: tokens and their users."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from client.disclosure import Disclosure
from client.link.channel import Access
from client.link.connection import AccessRefusedError, Connection
from client.session import Session
from client.stores.versions import VersionStore
from common.wire import offload_pb2 as wire
from server.trust.gate import OTHER_USER_TEXT, UNAUTHENTICATED_TEXT
from server.trust.limits import RateLimit
from server.trust.tokens import TokenKeys
from tests.support.gates import bearer, make_gate, requests, status, stub_of
from tests.support.serving import USERS, Endpoint, Misbehaving, Scene, make_scene

SECRET = "s" * 64
NOW = 1_800_000_000.0
Clock = list[float]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


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
    path.chmod(0o600)
    caplog.set_level(logging.DEBUG)
    with Endpoint(scene.service(), gates=[make_gate(scene, keys)]) as endpoint:
        with Connection(endpoint.address, access=Access(token=path)) as connection:
            description = connection.describe()
            assert (
                len(connection.package(description, 5, "paper", scene.local.own(5)).neighborhood)
                == 6
            )
            assert connection.send_report(requests(scene, 5)["Report"])
            with pytest.raises(AccessRefusedError, match=OTHER_USER_TEXT):
                connection.recommend(description, 4, "paper")
        with (
            Connection(endpoint.address) as connection,
            pytest.raises(AccessRefusedError, match=UNAUTHENTICATED_TEXT),
        ):
            connection.package(description, 5, "paper", scene.local.own(5))
    secret = path.read_text().strip()
    assert secret not in caplog.text and SECRET not in caplog.text


def test_a_report_that_its_token_did_not_outlive_is_sent_with_the_next(
    scene: Scene, tmp_path: Path
) -> None:
    clock: Clock = [NOW]
    keys = TokenKeys({"k": SECRET}, clock=lambda: clock[0])
    path = tmp_path / "token"

    def session(connection: Connection) -> Session:
        return Session(
            connection,
            VersionStore(tmp_path / "device"),
            scene.local,
            preset="paper",
            disclosure=Disclosure(least_users=1),
        )

    def a_day_passes() -> None:
        clock[0] += 86_400

    service = Misbehaving(scene.service(), before=a_day_passes)
    with Endpoint(service, gates=[make_gate(scene, keys)]) as endpoint:
        path.write_text(keys.token(range(7, 8), days=1))
        path.chmod(0o600)
        with Connection(endpoint.address, access=Access(token=path)) as connection:
            with pytest.raises(AccessRefusedError):
                list(session(connection).answer([7]))
            assert session(connection).send_pending() == 0
        path.write_text(keys.token(range(7, 8), days=1))
        path.chmod(0o600)
        with Connection(endpoint.address, access=Access(token=path)) as connection:
            assert session(connection).send_pending() == 1
            assert endpoint.counted("paper")[0] == 1


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


def test_receipts_are_for_the_users_of_a_token(tmp_path: Path) -> None:
    book = make_scene(tmp_path, release="book")
    keys = TokenKeys({"k": SECRET})
    token = bearer(keys.token(range(7, 10), days=1))
    version = book.description().version

    def asked(*users: int) -> wire.ReceiptsRequest:
        return wire.ReceiptsRequest(version=version, preset="vicinal", users=users)

    with stub_of(book, make_gate(book, keys)) as stub:
        assert status(stub, "GetReceipts", asked(7, 9), metadata=token)[0] == grpc.StatusCode.OK
        for users in ((7, 10), (10,), (7, USERS), (7, 1_000_000), tuple(range(7, 40))):
            assert status(stub, "GetReceipts", asked(*users), metadata=token) == OTHER_USER
        assert status(stub, "GetReceipts", asked(7)) == UNAUTHENTICATED


def test_a_users_rate_holds_for_receipts(tmp_path: Path) -> None:
    book = make_scene(tmp_path, release="book")
    version = book.description().version
    gate = make_gate(book, rate=RateLimit(0.001))
    with stub_of(book, gate) as stub:
        request = wire.ReceiptsRequest(version=version, preset="vicinal", users=[3, 4])
        codes = [status(stub, "GetReceipts", request)[0] for _ in range(12)]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        other = wire.ReceiptsRequest(version=version, preset="vicinal", users=[4])
        assert status(stub, "GetReceipts", other)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        fresh = wire.ReceiptsRequest(version=version, preset="vicinal", users=[5])
        assert status(stub, "GetReceipts", fresh)[0] == grpc.StatusCode.OK
