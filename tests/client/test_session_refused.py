"""What a device does with each refusal of a package: which end it, which leave the last package."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from client import session as module
from client.link.connection import AccessRefusedError, BudgetSpentError, Connection
from client.session import Session
from client.stores.packages import PackageStore
from client.stores.versions import VersionStore
from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadServicer
from common.wire.service import BUDGET_REFUSAL
from tests.support.serving import Endpoint, Scene, make_scene

USER = 7
Metadata = tuple[tuple[str, str], ...]


class Refusing(OffloadServicer):
    """A real service that refuses packages, and recommendations too where it is told so."""

    def __init__(self, scene: Scene) -> None:
        self._service = scene.service()
        self.code: grpc.StatusCode | None = None
        self.trailing: Metadata = ()
        self.recommends = True

    async def Describe(
        self, request: wire.DescribeRequest, context: grpc.aio.ServicerContext
    ) -> wire.Description:
        return await self._service.Describe(request, context)

    async def FetchModel(
        self, request: wire.FetchModelRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[wire.ModelChunk]:
        async for chunk in self._service.FetchModel(request, context):
            yield chunk

    async def GetPackage(
        self, request: wire.PackageRequest, context: grpc.aio.ServicerContext
    ) -> wire.OffloadPackage:
        if self.code is not None:
            await context.abort(self.code, "no package", self.trailing)
        return await self._service.GetPackage(request, context)

    async def Explain(
        self, request: wire.ExplainRequest, context: grpc.aio.ServicerContext
    ) -> wire.Explanation:
        return await self._service.Explain(request, context)

    async def Recommend(
        self, request: wire.RecommendRequest, context: grpc.aio.ServicerContext
    ) -> wire.Recommendation:
        if not self.recommends:
            await context.abort(grpc.StatusCode.INTERNAL, "no recommendation")
        return await self._service.Recommend(request, context)

    async def GetReceipts(
        self, request: wire.ReceiptsRequest, context: grpc.aio.ServicerContext
    ) -> wire.ReceiptsReply:
        return await self._service.GetReceipts(request, context)

    async def Report(
        self, request: wire.ReportRequest, context: grpc.aio.ServicerContext
    ) -> wire.ReportReply:
        return await self._service.Report(request, context)

    async def GetTally(
        self, request: wire.TallyRequest, context: grpc.aio.ServicerContext
    ) -> wire.TallyReply:
        return await self._service.GetTally(request, context)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def opened(connection: Connection, folder: Path, scene: Scene, *, kept: bool = True) -> Session:
    packages = PackageStore(folder / "packages", connection.address) if kept else None
    store = VersionStore(folder)
    return Session(connection, store, scene.local, preset="paper", packages=packages)


def way(session: Session) -> tuple[int, int, int]:
    counts = session.answer_one(USER).counts
    return counts.on_device, counts.stale, counts.by_server


FAULTS = ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "UNIMPLEMENTED")


@pytest.mark.parametrize("name", FAULTS)
def test_whenever_there_is_no_fresh_answer_the_last_package_gives_one(
    tmp_path: Path, scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AWAY_SECONDS", 0.0)
    server = Refusing(scene)
    with Endpoint(server) as endpoint, Connection(endpoint.address, patience=20) as connection:
        session = opened(connection, tmp_path / "device", scene)
        assert way(session) == (1, 0, 0)
        server.code = grpc.StatusCode[name]
        assert way(session) == (0, 1, 0)
        server.code = None
        session._ask_again = 0.0
        assert way(session) == (1, 0, 0)


@pytest.mark.parametrize("name", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_a_device_that_may_not_ask_is_told_so(tmp_path: Path, scene: Scene, name: str) -> None:
    server = Refusing(scene)
    with Endpoint(server) as endpoint, Connection(endpoint.address, patience=20) as connection:
        session = opened(connection, tmp_path / "device", scene)
        assert way(session) == (1, 0, 0)
        server.code = grpc.StatusCode[name]
        with pytest.raises(AccessRefusedError) as caught:
            way(session)
        assert caught.value.exit_code == 2


def test_a_spent_budget_means_the_servers_own_answer_and_then_the_last_package(
    tmp_path: Path, scene: Scene
) -> None:
    server = Refusing(scene)
    with Endpoint(server) as endpoint, Connection(endpoint.address, patience=20) as connection:
        session = opened(connection, tmp_path / "device", scene)
        assert way(session) == (1, 0, 0)
        server.code, server.trailing = grpc.StatusCode.RESOURCE_EXHAUSTED, (BUDGET_REFUSAL,)
        with pytest.raises(BudgetSpentError, match="no package"):
            connection.package(session.description, USER, "paper", scene.local.own(USER))
        assert way(session) == (0, 0, 1)
        assert way(opened(connection, tmp_path / "other", scene, kept=False)) == (0, 0, 1)
        server.recommends = False
        assert way(session) == (0, 1, 0)
