"""The calls over real gRPC: answers, statuses, tallies."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from client.device import answer
from client.link.connection import Connection, VersionRefusedError
from common.errors import InputError
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.messages import counts_from_wire
from common.wire.offload_pb2_grpc import OffloadStub
from server.front.service import INTERNAL_TEXT
from server.reports.sums import Sums
from server.reports.tally import STEP
from server.trust.receipts import Receipts
from tests.support.receipts import KEY, report_request
from tests.support.serving import PRESETS, USERS, Endpoint, Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


@pytest.fixture
def endpoint(scene: Scene) -> Iterator[Endpoint]:
    with Endpoint(scene.service()) as endpoint:
        yield endpoint


@pytest.fixture
def address(endpoint: Endpoint) -> str:
    return endpoint.address


@pytest.fixture
def connection(address: str) -> Iterator[Connection]:
    with Connection(address, patience=60) as opened:
        yield opened


@pytest.mark.parametrize("preset", ["paper", "vicinal"])
def test_device_and_server_give_the_same_answer_for_every_user(
    scene: Scene, connection: Connection, preset: str
) -> None:
    description = connection.describe()
    fetched = connection.fetch_model(description)
    assert fetched.data == scene.data and 0 < fetched.received < len(scene.data)
    for user in range(USERS):
        package = connection.package(description, user, preset, scene.local.own(user))
        own = scene.local.train.items_of(user)
        items, _ = answer(
            fetched.version,
            package.neighborhood,
            description.preset(preset),
            rated=own,
            held_out=scene.local.held_out_of(user),
            watched=description.watched,
            list_length=description.list_length,
        )
        assert items.tolist() == connection.recommend(description, user, preset)
        assert len(items) == 10 and not np.isin(items, own).any()


def test_what_requests_share_is_there_before_the_first(scene: Scene) -> None:
    served = scene.recommender.version.served
    shared = {"item_table", "item_gram", "item_basis"}
    assert not shared & vars(served).keys()
    scene.service()
    assert shared <= vars(served).keys()


def test_a_package_carries_the_asked_user_first(scene: Scene, connection: Connection) -> None:
    description = connection.describe()
    neighborhood = connection.package(description, 7, "paper", scene.local.own(7)).neighborhood
    assert neighborhood.ratings.items_of(0).tolist() == scene.local.train.items_of(7).tolist()


def status(address: str, call: str, request: object) -> tuple[grpc.StatusCode, str]:
    """How a call ends that must fail."""
    with grpc.insecure_channel(address) as channel:
        try:
            reply = getattr(OffloadStub(channel), call)(request, timeout=10)
            if call == "FetchModel":
                list(reply)
        except grpc.RpcError as error:
            return error.code(), error.details()
    raise AssertionError(f"{call} succeeded")


def test_what_a_caller_gets_wrong_is_a_status_with_one_line(scene: Scene, address: str) -> None:
    version = scene.recommender.version.digest
    known: dict[str, Any] = {"version": version, "preset": "vicinal"}
    code = grpc.StatusCode
    cases: list[tuple[str, object, grpc.StatusCode, str]] = [
        ("GetPackage", wire.PackageRequest(user=40, **known), code.NOT_FOUND, "choose 0–39"),
        ("Recommend", wire.RecommendRequest(user=43, **known), code.NOT_FOUND, "unknown user 43"),
        (
            "GetPackage",
            wire.PackageRequest(version=version, preset="x"),
            code.INVALID_ARGUMENT,
            "paper",
        ),
        (
            "GetPackage",
            wire.PackageRequest(version=version, preset="crowd"),
            code.INVALID_ARGUMENT,
            "k = 45 neighbors asked of 44 users",
        ),
        ("GetPackage", wire.PackageRequest(version="a" * 64), code.FAILED_PRECONDITION, version),
        ("Report", wire.ReportRequest(version=""), code.FAILED_PRECONDITION, version),
        ("GetTally", wire.TallyRequest(version="b"), code.FAILED_PRECONDITION, version),
        ("FetchModel", wire.FetchModelRequest(version="../x"), code.NOT_FOUND, version),
        (
            "FetchModel",
            wire.FetchModelRequest(version=version, offset=1 << 40),
            code.OUT_OF_RANGE,
            str(len(scene.data)),
        ),
    ]
    for call, request, expected, text in cases:
        found, details = status(address, call, request)
        assert found == expected, (call, request, details)
        assert text in details and "\n" not in details


def test_the_details_of_a_failure_stay_on_the_server(scene: Scene, address: str) -> None:
    (scene.folder / "forms" / scene.recommender.version.digest).unlink()
    request = wire.FetchModelRequest(version=scene.recommender.version.digest)
    assert status(address, "FetchModel", request) == (grpc.StatusCode.INTERNAL, INTERNAL_TEXT)


def test_a_request_of_megabytes_is_refused(scene: Scene, address: str) -> None:
    request = wire.PackageRequest(version="a" * (2 << 20))
    assert status(address, "GetPackage", request)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_repeated_key_counts_once(endpoint: Endpoint, connection: Connection) -> None:
    version = connection.describe().version
    first, second = (
        report_request(Receipts(KEY), version, "paper", key, [3, 4], hits=1) for key in ("a", "b")
    )
    counts = counts_from_wire(first.counts)
    assert connection.send_report(first)
    assert not connection.send_report(first)
    assert endpoint.counted("paper") == (1, counts)
    assert connection.send_report(second)
    assert endpoint.counted("paper") == (2, counts + counts)
    assert endpoint.counted("vicinal") == (0, Counts.none(2))


def test_faults_reach_a_device_as_its_own_errors(connection: Connection, scene: Scene) -> None:
    description = connection.describe()
    with pytest.raises(InputError, match="unknown user 40: choose 0–39"):
        connection.package(description, 40, "vicinal", scene.local.own(0))
    with pytest.raises(InputError, match="k = 45 neighbors asked of 44 users"):
        connection.package(description, 0, "crowd", scene.local.own(0))
    with pytest.raises(VersionRefusedError, match="another version is served"):
        connection.package(
            replace(description, version="a" * 64, transfers=()), 0, "paper", scene.local.own(0)
        )
    assert description.presets == PRESETS


def test_reports_show_in_the_metrics_in_steps(scene: Scene) -> None:
    service = scene.service()
    metrics, version = service._metrics, scene.description().version
    metrics.watch_tally(service.tally, service.versions.serves)
    service.tally.latest["gone", "paper"] = Sums(100, Counts((9, 9), (1, 1)))

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    about = {"version": version, "preset": "paper"}
    with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
        for number in range(STEP):
            assert value("vicinal_hit_ratio", **about) is None
            request = report_request(
                service.receipts, version, "paper", str(number), [1, 2], stale=[3], hits=number % 2
            )
            assert connection.send_report(request)
        assert value("vicinal_hit_ratio", version="gone", preset="paper") is None
        assert value("vicinal_hit_ratio", **about) == pytest.approx(1 / 6)
        assert value("vicinal_accuracy", **about) == pytest.approx(1 / 6)
        assert value("vicinal_answered_total", how="on_device") == 2 * STEP
        assert value("vicinal_answered_total", how="stale") == STEP
        request.key = "again"
        with pytest.raises(InputError, match="counted before"):
            connection.send_report(request)
        assert value("vicinal_reports_refused_total", why="repeated") == 1
