"""Reports that a device owes: kept until the server has them, sent once at the next start."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.disclosure import Disclosure
from client.link.connection import Connection, ServerFailedError, VersionRefusedError, report_of
from client.run import DeviceRun, answer_users
from client.session import Session
from client.stores.ratings import write_local_ratings
from client.stores.reports import PendingReports, reports_folder
from client.stores.versions import VersionStore
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.service import MAX_REPORT_AGE_SECONDS
from server.reports.tally import Tally
from server.trust.receipts import Receipts
from tests.support.receipts import KEY, receipts_for
from tests.support.serving import Endpoint, Misbehaving, Scene, make_scene

ONE = Counts((1, 1), (0, 1), 1, 1, on_device=1)

# Reports of few users, too.
FEW = Disclosure(least_users=1)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def report(scene: Scene, key: str = "a" * 32) -> wire.ReportRequest:
    receipts = receipts_for(Receipts(KEY), scene.description().version, "paper", [7])
    return report_of(scene.description(), "paper", key, ONE, receipts)


def test_what_is_kept_is_found_again_until_it_is_dropped(tmp_path: Path, scene: Scene) -> None:
    pending = PendingReports(tmp_path / "reports")
    assert list(pending) == []
    reports = [report(scene, key * 32) for key in "ab"]
    for one in reports:
        pending.keep(one)
    assert list(PendingReports(tmp_path / "reports")) == reports
    pending.drop(reports[0])
    pending.drop(reports[0])
    assert list(pending) == reports[1:]


def test_a_report_is_given_up_before_the_server_forgets_its_key(
    tmp_path: Path, scene: Scene
) -> None:
    pending = PendingReports(tmp_path / "reports")
    pending.keep(report(scene))
    (path,) = (tmp_path / "reports").iterdir()
    old = path.stat().st_mtime - MAX_REPORT_AGE_SECONDS - 60
    os.utime(path, (old, old))
    assert list(pending) == [] and not path.exists()


@given(data=st.binary(max_size=200), name=st.sampled_from(["x.report", f"{'a' * 32}.report"]))
def test_damaged_files_are_deleted(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    folder = tmp_path_factory.mktemp("reports")
    (folder / name).write_bytes(data)
    assert list(PendingReports(folder)) == []
    # What no device would call so is somebody else's.
    assert [path.name for path in folder.iterdir()] == (["x.report"] if name[0] == "x" else [])


def test_a_report_whose_answer_was_lost_is_sent_again_and_counted_once(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VersionStore(tmp_path / "device")
    service = scene.service()
    server = Misbehaving(service)
    with Endpoint(server) as endpoint:
        with Connection(endpoint.address) as connection:
            session = Session(connection, store, scene.local, preset="paper", disclosure=FEW)

            def cut_off(report: wire.ReportRequest) -> bool:
                Connection.send_report(connection, report)
                raise ServerFailedError("the answer was lost")

            monkeypatch.setattr(connection, "send_report", cut_off)
            [answered] = session.answer([1, 2])
            assert [one.reported for one in answered] == [False, False]
        assert len(list((store.folder / "reports").rglob("*.report"))) == 1
        ratings = tmp_path / "ratings"
        write_local_ratings(ratings, scene.local)
        run = DeviceRun(endpoint.address, ratings, store.folder, "paper", (3,), disclosure=FEW)
        assert answer_users(run).late_reports == 1
        assert answer_users(run).late_reports == 0
    assert [one.key for one in server.reports[:2]] == [server.reports[0].key] * 2
    assert service.tally.total(service.versions.current.description.version, "paper")[0] == 3
    assert list((store.folder / "reports").rglob("*.report")) == []


def test_a_report_of_a_version_that_is_not_served_now_is_kept(tmp_path: Path, scene: Scene) -> None:
    store = VersionStore(tmp_path / "device")
    other, refused = report(scene), report(scene, "b" * 32)
    other.version = "c" * 64
    refused.counts.users = 1000
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = Session(connection, store, scene.local, preset="paper", disclosure=FEW)
        pending = PendingReports(reports_folder(store.folder, endpoint.address))
        pending.keep(other)
        pending.keep(refused)
        assert session.send_pending() == 0
        assert list(pending) == [other]


def test_a_report_of_a_version_that_the_server_has_forgotten_joins_its_sum(
    tmp_path: Path, scene: Scene
) -> None:
    old, path = report(scene).version, tmp_path / "tally.sqlite"
    new = make_scene(tmp_path, like=scene).service()
    with scene.tally() as empty, Tally(users=40, eligible=empty._most.eligible, path=path) as tally:
        tally.add(old, "paper", "c" * 32, ONE)
        new.tally = tally
        with Endpoint(new) as endpoint, Connection(endpoint.address) as connection:
            mine = report(scene)
            assert connection.send_report(mine)
            assert not connection.send_report(mine)
            other = report(scene, "b" * 32)
            other.preset = "vicinal"
            with pytest.raises(VersionRefusedError, match="another version is served"):
                connection.send_report(other)
        assert tally.total(old, "paper") == (2, ONE + ONE)


def test_a_report_is_on_the_disk_before_it_is_sent(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        store = VersionStore(tmp_path / "device")
        session = Session(connection, store, scene.local, preset="paper", disclosure=FEW)
        monkeypatch.setattr(
            connection,
            "send_report",
            lambda report: kept.append(
                (reports_folder(store.folder, endpoint.address) / f"{report.key}.report").exists()
            ),
        )
        list(session.answer([1]))
    assert kept == [True]


def test_a_report_that_cannot_be_kept_withholds_no_answer(
    tmp_path: Path, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "device"
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = Session(
            connection, VersionStore(folder), scene.local, preset="paper", disclosure=FEW
        )
        (folder / "reports").write_text("in the way")
        [[answered]] = session.answer([1])
        assert answered.items and answered.reported
        assert endpoint.counted("paper")[0] == 1
    (line,) = caplog.messages
    assert "cannot write a report" in line and line.endswith("this report is not kept")
