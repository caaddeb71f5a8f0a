"""What a device makes of a server that misbehaves, dies, or is not there; over real gRPC."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from client.link.connection import Connection, report_of
from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.packing import pack
from common.wire.service import MAX_ANSWER_BYTES
from tests.support.receipts import receipts_for
from tests.support.serving import (
    LARGE_ITEMS,
    WIDTH,
    Chunks,
    Endpoint,
    Mangle,
    Misbehaving,
    Scene,
    flipped,
    make_scene,
    other_manifest,
)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A version of several chunks."""
    return make_scene(tmp_path_factory.mktemp("large"), items=LARGE_ITEMS)


def first_shortened(chunks: Chunks) -> Chunks:
    chunk = next(chunks)
    yield wire.ModelChunk(offset=chunk.offset, data=chunk.data[:-1])
    yield from chunks


def first_flipped(chunks: Chunks) -> Chunks:
    yield flipped(next(chunks))
    yield from chunks


def first_two_swapped(chunks: Chunks) -> Chunks:
    first, second = next(chunks), next(chunks)
    yield second
    yield first
    yield from chunks


def last_left_out(chunks: Chunks) -> Chunks:
    before = next(chunks)
    for chunk in chunks:
        yield before
        before = chunk


def one_too_many(chunks: Chunks) -> Chunks:
    end = 0
    for chunk in chunks:
        end = chunk.offset + len(chunk.data)
        yield chunk
    yield wire.ModelChunk(offset=end, data=b"more")


def empty_chunks(chunks: Chunks) -> Chunks:
    while True:
        yield wire.ModelChunk(offset=0)


FAULTS: dict[str, Callable[[Chunks], Chunks]] = {
    "do not follow": first_shortened,
    "SHA-256": first_flipped,
    "do not follow one": first_two_swapped,
    "bytes came": last_left_out,
    "more bytes than described": one_too_many,
    "do not follow one another": empty_chunks,
}


def mangled(fault: Callable[[Chunks], Chunks], *, times: int) -> Mangle:
    """The fault on the first `times` fetches, none afterwards."""
    left = iter(range(times))

    def mangle(chunks: Chunks, _offset: int) -> Chunks:
        return chunks if next(left, None) is None else fault(chunks)

    return mangle


@pytest.mark.parametrize(("text", "fault"), FAULTS.items())
def test_a_damaged_transfer_is_thrown_away_and_fetched_anew(
    large: Scene, text: str, fault: Callable[[Chunks], Chunks]
) -> None:
    server = Misbehaving(large.service(), mangle=mangled(fault, times=2))
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        fetched = connection.fetch_model(connection.describe())
    assert fetched.data == large.data
    assert server.fetches == [0, 0, 0]
    assert fetched.received >= len(large.data) / 2


@pytest.mark.parametrize(("text", "fault"), FAULTS.items())
def test_damage_every_time_is_given_up_with_the_reason(
    large: Scene, text: str, fault: Callable[[Chunks], Chunks]
) -> None:
    server = Misbehaving(large.service(), mangle=mangled(fault, times=100))
    with (
        Endpoint(server) as endpoint,
        Connection(endpoint.address) as connection,
        pytest.raises(VicinalError, match=rf"arrived damaged 3 times \(.*{text}") as caught,
    ):
        connection.fetch_model(connection.describe())
    assert not isinstance(caught.value, InputError)
    assert len(server.fetches) == 3


def test_a_manifest_that_does_not_match_is_refused(large: Scene) -> None:
    server = Misbehaving(large.service(), describe=other_manifest)
    with (
        Endpoint(server) as endpoint,
        Connection(endpoint.address) as connection,
        pytest.raises(VicinalError, match="manifest it describes is not the one inside"),
    ):
        connection.fetch_model(connection.describe())


def changed(said: wire.Description, **values: object) -> wire.Description:
    copy = wire.Description()
    copy.CopyFrom(said)
    for name, value in values.items():
        setattr(copy, name, value)
    return copy


@pytest.mark.parametrize(
    "values",
    [
        {"version": "../../x"},
        {"version_bytes": 1 << 62},
        {"version_bytes": 3},
        {"manifest": "{}"},
        {"manifest": "[" * 100_000},
        {"user_count": 0},
        {"user_count": 4_000_000_000},
        {"list_length": 0},
    ],
)
def test_a_description_that_cannot_be_is_the_servers_fault(
    large: Scene, values: dict[str, object]
) -> None:
    server = Misbehaving(large.service(), describe=lambda said: changed(said, **values))
    with (
        Endpoint(server) as endpoint,
        Connection(endpoint.address) as connection,
        pytest.raises(VicinalError) as caught,
    ):
        connection.describe()
    assert not isinstance(caught.value, InputError)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def fewer_rows(made: wire.OffloadPackage) -> wire.OffloadPackage:
    return wire.OffloadPackage(
        version=made.version,
        neighborhood=wire.Neighborhood(
            row_lengths=[0],
            items=pack(b""),
            levels=pack(b""),
            user_parameters={"user_embedding": b"\0" * (1 + WIDTH)},
        ),
    )


def no_levels(made: wire.OffloadPackage) -> wire.OffloadPackage:
    made.neighborhood.levels = b""
    return made


def out_of_range(made: wire.OffloadPackage) -> wire.OffloadPackage:
    rows = made.neighborhood.user_parameters["user_embedding"]
    made.neighborhood.user_parameters["user_embedding"] = b"\x80" * len(rows)
    return made


def other_version(made: wire.OffloadPackage) -> wire.OffloadPackage:
    made.version = "a" * 64
    return made


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (fewer_rows, "1 rows"),
        (no_levels, "cut off"),
        (out_of_range, "out of range"),
        (other_version, "another model version"),
    ],
)
def test_a_package_that_cannot_be_is_the_servers_fault(
    tmp_path: Path, change: Callable[[wire.OffloadPackage], wire.OffloadPackage], text: str
) -> None:
    scene = make_scene(tmp_path)
    server = Misbehaving(scene.service(), package=change)
    with (
        Endpoint(server) as endpoint,
        Connection(endpoint.address) as connection,
        pytest.raises(VicinalError, match=text) as caught,
    ):
        connection.package(connection.describe(), 0, "paper", scene.local.own(0))
    assert not isinstance(caught.value, InputError)


def test_an_answer_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    def huge(made: wire.OffloadPackage) -> wire.OffloadPackage:
        made.neighborhood.items = bytes(MAX_ANSWER_BYTES)
        return made

    scene = make_scene(tmp_path)
    server = Misbehaving(scene.service(), package=huge)
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        description = connection.describe()
        with pytest.raises(VicinalError, match=r"larger than the [0-9,]+ bytes") as caught:
            connection.package(description, 0, "paper", scene.local.own(0))
        assert caught.value.exit_code == 1
        assert len(connection.recommend(description, 0, "paper")) == 10


def test_a_report_whose_reply_was_lost_counts_once(tmp_path: Path) -> None:
    service = make_scene(tmp_path).service()
    server = Misbehaving(service)
    server.lose_first_reply()
    counts = Counts((1, 0), (1, 0), 1, 1, 0, 0, on_device=1)
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        description = connection.describe()
        receipts = receipts_for(service.receipts, description.version, "paper", [7])
        assert not connection.send_report(report_of(description, "paper", "key", counts, receipts))
        assert endpoint.counted("paper") == (1, counts)
    assert [request.key for request in server.reports] == ["key", "key"]


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", ":1", "h:0", "h:65536", "h:x"])
def test_an_address_needs_host_and_port(address: str) -> None:
    with pytest.raises(InputError, match="HOST:PORT"):
        Connection(address)


def test_a_dead_server_is_given_up_in_time() -> None:
    start = time.monotonic()
    with (
        Connection("127.0.0.1:1") as connection,
        pytest.raises(VicinalError, match=r"no answer from a server at 127\.0\.0\.1:1"),
    ):
        connection.describe()
    # Eight seconds at most, but for a busy machine.
    assert 5 < time.monotonic() - start < 60


def test_a_silent_server_is_given_up_in_time(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    server = Misbehaving(scene.service(), before=lambda: time.sleep(2))
    with (
        Endpoint(server) as endpoint,
        Connection(endpoint.address, patience=0.5) as connection,
        pytest.raises(VicinalError, match="no answer"),
    ):
        connection.package(connection.describe(), 0, "paper", scene.local.own(0))


def test_a_saturated_server_is_asked_again_when_it_says(tmp_path: Path) -> None:
    service = make_scene(tmp_path).service(refusals=2)
    with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
        description = connection.describe()
        start = time.monotonic()
        assert len(connection.recommend(description, 3, "paper")) == 10
        assert time.monotonic() - start >= 2 * 0.15


def test_a_server_that_stays_saturated_is_given_up_in_time(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    with (
        Endpoint(scene.service(refusals=1000)) as endpoint,
        Connection(endpoint.address, patience=1) as connection,
        pytest.raises(VicinalError, match="saturated, 7 requests wait: try again in 150 ms"),
    ):
        connection.package(connection.describe(), 0, "paper", scene.local.own(0))
