"""Reports that lie, repeat, overflow or break; whoever tells the truth is counted beside them."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from common.wire import offload_pb2 as wire
from common.wire.messages import counts_from_wire
from common.wire.offload_pb2_grpc import OffloadStub
from common.wire.service import REPORT_KEY_SECONDS
from server.front.parsing import GARBAGE_TEXT, Parsing
from server.front.service import TALLY_TEXT, OffloadService
from server.metrics import Metrics
from server.reports.tally import STEP
from server.sql.sqlite import SqliteTransactions
from server.trust.gate import OPERATOR_TEXT, UNAUTHENTICATED_TEXT, Gate
from server.trust.places import CallLimits
from server.trust.receipts import Receipts
from server.trust.tokens import TokenKeys
from tests.faults.support.liars import LIES
from tests.support.gates import bearer, status
from tests.support.receipts import KEY, receipts_for, report_request
from tests.support.serving import USERS, Endpoint, Scene, make_scene

KEYS = TokenKeys({"k": "s" * 64})
PRESET = "paper"
CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def version(scene: Scene) -> str:
    return scene.description().version


@pytest.fixture
def service(scene: Scene, tmp_path: Path) -> Iterator[OffloadService]:
    with scene.tally(tmp_path / "tally.sqlite") as tally:
        yield scene.service(tally=tally)


@pytest.fixture
def endpoint(service: OffloadService) -> Iterator[Endpoint]:
    with Endpoint(service) as opened:
        yield opened


@pytest.fixture
def stub(endpoint: Endpoint) -> Iterator[Any]:
    with grpc.insecure_channel(endpoint.address) as channel:
        yield OffloadStub(channel)


@pytest.fixture
def guarded(service: OffloadService, scene: Scene) -> Iterator[Any]:
    """As with tokens; `.metrics` is what it counts."""
    metrics = service._metrics
    gate = Gate(
        metrics, calls=CallLimits.of(64), users=USERS, keys=KEYS, call_seconds=60, stream_seconds=60
    )
    with (
        Endpoint(service, gates=[gate, Parsing(metrics)]) as opened,
        grpc.insecure_channel(opened.address) as channel,
    ):
        yield channel


def good(version: str, number: int, users: tuple[int, ...] = (3, 4)) -> wire.ReportRequest:
    return report_request(Receipts(KEY), version, PRESET, f"good-{number}", users)


def changed(version: str, change: Callable[[wire.ReportRequest], object]) -> wire.ReportRequest:
    request = report_request(Receipts(KEY), version, PRESET, "changed", [5, 6], stale=[7])
    change(request)
    return request


def other_receipts(version: str, preset: str = PRESET, key: bytes = KEY) -> Any:
    def change(request: wire.ReportRequest) -> None:
        request.receipts[:] = receipts_for(Receipts(key), version, preset, [5, 6])

    return change


@pytest.mark.parametrize("lie", LIES)
def test_a_report_that_lies_is_refused_alone(
    stub: Any, endpoint: Endpoint, version: str, lie: str
) -> None:
    code, text = status(stub, "Report", changed(version, LIES[lie]))
    assert code == CODE.INVALID_ARGUMENT, text
    assert text.startswith("report: ") and "\n" not in text and len(text) < 200
    assert status(stub, "Report", good(version, 1))[0] == CODE.OK
    assert endpoint.counted(PRESET)[0] == 1


def test_receipts_of_another_server_version_or_preset_are_worth_nothing(
    stub: Any, endpoint: Endpoint, version: str
) -> None:
    for change in (
        other_receipts(version, key=b"o" * 32),
        other_receipts("f" * 64),
        other_receipts(version, "vicinal"),
    ):
        code, text = status(stub, "Report", changed(version, change))
        assert (code, "not one of this server, version and preset" in text) == (
            CODE.INVALID_ARGUMENT,
            True,
        )
    many = report_request(Receipts(KEY), version, PRESET, "many", range(26))
    assert "25 users at most" in status(stub, "Report", many)[1]
    assert endpoint.counted(PRESET)[0] == 0


def test_bad_reports_fail_alone_among_good_ones_of_their_commits(
    stub: Any, endpoint: Endpoint, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    spent = good(version, 10_000)
    assert stub.Report(spent, timeout=20).counted
    requests = [good(version, number) for number in range(400)]
    for number, lie in enumerate(LIES.values()):
        requests.insert(20 * number, changed(version, lie))
    # These are found out in the commit itself.
    for number in range(20):
        again = good(version, 20_000 + number)
        again.receipts[:] = spent.receipts
        requests.insert(17 * number, again)
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda one: status(stub, "Report", one)[0], requests))
    assert codes.count(CODE.OK) == 400
    assert set(codes) == {CODE.OK, CODE.INVALID_ARGUMENT}
    assert not caplog.records
    expected = counts_from_wire(spent.counts)
    reports, total = endpoint.counted(PRESET)
    assert (reports, total.users, total.on_device) == (401, 401 * expected.users, 401 * 2)


def test_a_sum_that_was_poisoned_before_is_added_to_again(
    scene: Scene, version: str, tmp_path: Path
) -> None:
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as database:
        for statement in (
            "CREATE TABLE totals (version TEXT, preset TEXT, measured TEXT, reports INTEGER NOT "
            "NULL, counts TEXT NOT NULL, PRIMARY KEY (version, preset, measured)) WITHOUT ROWID",
            "CREATE TABLE keys (key TEXT PRIMARY KEY, came INTEGER NOT NULL) WITHOUT ROWID",
            "CREATE INDEX keys_by_age ON keys (came)",
            "PRAGMA application_id = 1449747316",
            "PRAGMA user_version = 1",
        ):
            database.execute(statement)
        database.execute(
            "INSERT INTO totals VALUES (?, ?, '', 1, '[[9, 9], [1, 1], 9, 1, 0, 0, 0, 0, 0]')",
            (version, PRESET),
        )
        database.execute("INSERT INTO keys VALUES ('old', unixepoch() - 60)")
    database.close()
    with (
        scene.tally(path) as tally,
        Endpoint(scene.service(tally=tally)) as endpoint,
        grpc.insecure_channel(endpoint.address) as channel,
    ):
        assert OffloadStub(channel).Report(good(version, 1), timeout=20).counted
        reports, total = endpoint.counted(PRESET)
        assert (reports, total.users, total.on_device) == (2, 11, 2)
        # What was remembered is so still.
        old = good(version, 2)
        old.key = "old"
        assert not OffloadStub(channel).Report(old, timeout=20).counted


def test_a_receipt_is_counted_once_however_often_it_is_sent(
    stub: Any, endpoint: Endpoint, version: str
) -> None:
    first = report_request(Receipts(KEY), version, PRESET, "first", [3], stale=[4])
    assert stub.Report(first, timeout=20).counted
    again = wire.ReportRequest()
    again.CopyFrom(first)
    for _ in range(3):
        assert not stub.Report(again, timeout=20).counted
    again.key = "second"
    code, text = status(stub, "Report", again)
    assert (code, text) == (
        CODE.INVALID_ARGUMENT,
        "report: a receipt in it was counted before",
    )
    # A package answers afresh once, and once more while there is no server.
    later = report_request(Receipts(KEY), version, PRESET, "third", [], stale=[3])
    later.stale_receipts[:] = first.receipts
    assert stub.Report(later, timeout=20).counted
    assert endpoint.counted(PRESET)[0] == 2


def test_nobody_reports_for_others_and_shards_follow_tokens(
    guarded: Any, service: OffloadService, version: str
) -> None:
    stub = OffloadStub(guarded)
    token = bearer(KEYS.token(range(3, 5), days=1))
    for number in range(40):
        assert stub.Report(good(version, number), metadata=token, timeout=20).counted
    code, text = status(stub, "Report", good(version, 99, (3, 5)), metadata=token)
    assert (code, text) == (
        CODE.INVALID_ARGUMENT,
        "report: a receipt in it is of a user of another token",
    )
    assert service.tally.total(version, PRESET)[0] == 40
    (shard,) = service.tally._file.sums(service.tally._whose(version, PRESET)).shards.values()  # type: ignore[union-attr]  # there are sums
    assert shard[0] == 40


def test_the_tally_is_the_operators_and_tells_whole_hundreds(guarded: Any, version: str) -> None:
    stub, asked = OffloadStub(guarded), wire.TallyRequest(version=version, preset=PRESET)
    device = bearer(KEYS.token(range(USERS), days=1))
    operator = bearer(KEYS.operator_token(days=1))
    assert status(stub, "GetTally", asked) == (CODE.UNAUTHENTICATED, UNAUTHENTICATED_TEXT)
    assert status(stub, "GetTally", asked, metadata=device) == (
        CODE.PERMISSION_DENIED,
        OPERATOR_TEXT,
    )
    package = wire.PackageRequest(version=version, user=3, preset=PRESET)
    assert status(stub, "GetPackage", package, metadata=operator)[0] == CODE.UNAUTHENTICATED
    seen = set()
    for number in range(2 * STEP + 20):
        users = (number % USERS,)
        assert stub.Report(good(version, number, users), metadata=device, timeout=20).counted
        said = stub.GetTally(asked, metadata=operator, timeout=20)
        seen.add((said.reports, said.counts.users, tuple(said.counts.eligible)))
        assert not said.shards
    assert seen == {(0, 0, (0, 0)), *((n * STEP, n * STEP, (n * STEP,) * 2) for n in (1, 2))}


def test_without_tokens_the_tally_stays_on_this_machine(service: OffloadService) -> None:
    metrics = service._metrics
    asked = wire.TallyRequest(version=service.versions.current.description.version, preset=PRESET)
    for loopback, code in ((True, CODE.OK), (False, CODE.PERMISSION_DENIED)):
        gate = Gate(
            metrics,
            calls=CallLimits.of(64),
            users=USERS,
            loopback=loopback,
            call_seconds=60,
            stream_seconds=60,
        )
        with (
            Endpoint(service, gates=[gate]) as endpoint,
            grpc.insecure_channel(endpoint.address) as channel,
        ):
            assert status(OffloadStub(channel), "GetTally", asked)[0] == code


@pytest.mark.parametrize("replaced", [False, True])
def test_a_tally_file_that_is_gone_counts_nothing_and_is_noticed(
    stub: Any, version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, replaced: bool
) -> None:
    path = tmp_path / "tally.sqlite"
    assert stub.Report(good(version, 1), timeout=20).counted
    kept = path.rename(tmp_path / "elsewhere")
    if replaced:
        path.write_bytes(kept.read_bytes())
    for number in range(2, 6):
        assert status(stub, "Report", good(version, number)) == (CODE.INTERNAL, TALLY_TEXT)
    (line,) = [one.getMessage() for one in caplog.records]
    assert str(path) in line and ("another file" if replaced else "is gone") in line
    package = wire.PackageRequest(version=version, user=3, preset=PRESET)
    assert status(stub, "GetPackage", package)[0] == CODE.OK
    kept.replace(path)
    assert stub.Report(good(version, 2), timeout=20).counted


def test_a_full_disk_stops_reports_alone_and_is_said_once(
    stub: Any,
    service: OffloadService,
    endpoint: Endpoint,
    version: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    transactions = service.tally._file._sql
    assert isinstance(transactions, SqliteTransactions)
    database = transactions.database
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    requests = [good(version, number, tuple(range(25))) for number in range(300)]
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda one: status(stub, "Report", one), requests))
    counted = [code for code, _ in ended].count(CODE.OK)
    assert set(ended) - {(CODE.OK, "")} == {(CODE.INTERNAL, TALLY_TEXT)}
    package = wire.PackageRequest(version=version, user=3, preset=PRESET)
    assert status(stub, "GetPackage", package)[0] == CODE.OK
    assert len([one for one in caplog.records if one.levelno == logging.ERROR]) <= counted + 1
    assert "full" in caplog.records[0].getMessage()
    database.execute("PRAGMA max_page_count = 1073741823")
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda one: stub.Report(one, timeout=20).counted, requests))
    assert again.count(False) == counted and endpoint.counted(PRESET)[0] == 300
    assert "again" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("call", ["Describe", "FetchModel", "GetPackage", "Report", "GetTally"])
def test_garbage_is_refused_behind_the_gate_and_counted(
    guarded: Any, service: OffloadService, call: str
) -> None:
    metrics: Metrics = service._metrics
    path = f"/vicinal.v1.Offload/{call}"

    def ended(metadata: Any = ()) -> tuple[grpc.StatusCode, str]:
        kind = guarded.unary_stream if call == "FetchModel" else guarded.unary_unary
        try:
            reply = kind(path, lambda data: data, lambda data: data)(
                b"\xff" * 40, metadata=metadata, timeout=20
            )
            if call == "FetchModel":
                list(reply)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError("it was answered")

    if call not in ("Describe", "FetchModel"):
        assert ended() == (CODE.UNAUTHENTICATED, UNAUTHENTICATED_TEXT)
    operator = call == "GetTally"
    token = KEYS.operator_token(days=1) if operator else KEYS.token(range(3), days=1)
    assert ended(bearer(token)) == (CODE.INVALID_ARGUMENT, GARBAGE_TEXT)
    labels = {"call": call, "status": "INVALID_ARGUMENT"}
    assert metrics.registry.get_sample_value("vicinal_requests_total", labels) == 1


def test_a_clock_that_jumps_a_month_and_back_counts_nothing_twice(
    scene: Scene, version: str, tmp_path: Path
) -> None:
    wall, passed = [1_800_000_000.0], [0.0]

    def clocks() -> dict[str, Any]:
        return {"clock": lambda: wall[0], "passed": lambda: passed[0]}

    def report(request: wire.ReportRequest) -> bool:
        with (
            scene.tally(tmp_path / "tally.sqlite", **clocks()) as tally,
            Endpoint(scene.service(tally=tally)) as endpoint,
            grpc.insecure_channel(endpoint.address) as channel,
        ):
            answered: bool = OffloadStub(channel).Report(request, timeout=20).counted
            wall[0] += 31 * 86_400
            between = good_at(version, wall[0], endpoint)
            assert OffloadStub(channel).Report(between, timeout=20).counted
            wall[0] -= 31 * 86_400
            assert not OffloadStub(channel).Report(request, timeout=20).counted
            return answered

    first = good_at(version, wall[0])
    assert report(first)
    # After a restart too, with the clock right, a year behind or a month ahead.
    for jump in (0, -365 * 86_400, 31 * 86_400):
        wall[0] += jump
        try:
            assert not report(first)
        except grpc.RpcError as error:
            assert (error.code(), "too old" in error.details()) == (CODE.INVALID_ARGUMENT, True)
        wall[0] -= jump
    passed[0] += REPORT_KEY_SECONDS + 1


_numbers = iter(range(1_000_000))


def good_at(version: str, now: float, endpoint: Endpoint | None = None) -> wire.ReportRequest:
    """With receipts of that moment, or of what a server takes for it."""
    clock = (lambda: now) if endpoint is None else endpoint._service.tally.now  # type: ignore[attr-defined]  # of ours
    return report_request(Receipts(KEY, clock=clock), version, PRESET, f"at-{next(_numbers)}", [3])
