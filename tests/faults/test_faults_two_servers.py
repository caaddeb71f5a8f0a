"""A device that meets a second server, or a hostile one, at its address: what stays of it."""

import time
from pathlib import Path

import pytest

from client.disclosure import Disclosure
from client.link.connection import Connection, NoAnswerError
from client.session import Session
from client.stores.publications import AHEAD_SECONDS, Publications
from client.stores.reports import PendingReports, reports_folder
from client.stores.versions import VersionStore
from common.errors import VicinalError
from common.wire import offload_pb2 as wire
from tests.support.serving import Endpoint, Misbehaving, Scene, make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def session(connection: Connection, folder: Path, scene: Scene) -> Session:
    disclosure = Disclosure(least_users=1)
    store = VersionStore(folder)
    return Session(connection, store, scene.local, preset="paper", disclosure=disclosure)


def test_a_number_of_the_far_future_locks_no_server_out(tmp_path: Path) -> None:
    """Whoever sent it once would keep the device from the honest one for ever."""
    now = time.time()
    seen = Publications(tmp_path, clock=lambda: now)
    for said in ((1 << 64) - 1, int(now + 2 * AHEAD_SECONDS)):
        seen.check("here:1", said)
        seen.check("here:1", int(now))
    with pytest.raises(NoAnswerError, match="older"):
        seen.check("here:1", int(now) - 1)
    # One that was remembered before this was so.
    (path,) = tmp_path.iterdir()
    path.write_text(f"{(1 << 64) - 1}\n")
    seen.check("here:1", 1)


@pytest.mark.parametrize("size", [65, 1 << 20])
def test_a_receipt_that_is_no_receipt_is_not_kept(tmp_path: Path, scene: Scene, size: int) -> None:
    def swollen(package: wire.OffloadPackage) -> wire.OffloadPackage:
        package.receipt = bytes(size)
        return package

    server = Misbehaving(scene.service(), package=swollen)
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        answers = session(connection, tmp_path, scene).answer([1])
        with pytest.raises(VicinalError, match=f"receipt has {size} bytes"):
            next(answers)
    assert not list(tmp_path.rglob("*.report"))


def test_what_is_owed_to_a_server_is_told_to_no_other(tmp_path: Path, scene: Scene) -> None:
    first = Misbehaving(scene.service())
    with Endpoint(first) as endpoint, Connection(endpoint.address) as connection:
        owing = session(connection, tmp_path, scene)
        owed = PendingReports(reports_folder(tmp_path, endpoint.address))
        owed.keep(wire.ReportRequest(version=owing.description.version, key="a" * 32))
    second = Misbehaving(scene.service())
    with Endpoint(second) as endpoint, Connection(endpoint.address) as connection:
        assert session(connection, tmp_path, scene).send_pending() == 0
    assert not second.reports
    assert len(list(owed)) == 1
