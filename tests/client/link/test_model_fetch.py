"""How a form comes to a device: encoded, packed, as a delta, resumed, and past what lies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.link.connection import Connection
from client.session import Session
from client.stores.versions import VersionStore
from common.errors import InputError
from common.versions.encodings import ENCODINGS, Encoding, encode_form
from common.versions.transfers import pack
from common.versions.version import version_digest
from common.wire import offload_pb2 as wire
from server.front.service import CHUNK_BYTES
from server.versions.catalog import Catalog
from server.versions.folder import write_version
from tests.support.serving import (
    LARGE_ITEMS,
    SECRET,
    Chunks,
    Endpoint,
    Misbehaving,
    Scene,
    make_scene,
)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


@pytest.fixture
def near(tmp_path: Path, scene: Scene) -> Scene:
    """The next version of the same ratings."""
    return make_scene(tmp_path, like=scene)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_device_answers_with_the_form_that_it_asked_for(
    tmp_path: Path, scene: Scene, encoding: Encoding
) -> None:
    store = VersionStore(tmp_path / "device")
    form = scene.description().form(encoding)
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = Session(connection, store, scene.local, preset="vicinal", encoding=encoding)
        assert store.digests() == [form.digest]
        assert session.version is not None
        assert session.version.digest == scene.recommender.version.digest
        assert 0 < session.cold_bytes <= form.size
        (batch,) = session.answer([0, 1, 2])
        assert [one.user for one in batch] == [0, 1, 2]
        again = Session(connection, store, scene.local, preset="paper", encoding=encoding)
    assert again.cold_bytes == 0 and again.version is not None
    for name, table in session.version.parameters.items():
        assert (again.version.parameters[name] == table).all()


def test_an_encoding_that_the_server_has_not_is_refused(tmp_path: Path, scene: Scene) -> None:
    def describe(said: wire.Description) -> wire.Description:
        bare = wire.Description()
        bare.CopyFrom(said)
        del bare.forms[:], bare.transfers[:]
        return bare

    server = Misbehaving(scene.service(), describe=describe)
    with (
        Endpoint(server) as endpoint,
        Connection(endpoint.address) as connection,
        pytest.raises(InputError, match="no int8 form of its version: it offers float32"),
    ):
        store = VersionStore(tmp_path / "device")
        Session(connection, store, scene.local, preset="paper", encoding="int8")


def test_a_delta_is_fetched_instead_of_the_form(tmp_path: Path, scene: Scene, near: Scene) -> None:
    store = VersionStore(tmp_path / "device")
    service = scene.service()
    with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
        first = Session(connection, store, scene.local, preset="paper", encoding="int8")
        publish(service.versions, scene, near)
        second = Session(connection, store, scene.local, preset="paper", encoding="int8")
        fresh = Session(connection, VersionStore(tmp_path / "other"), scene.local, preset="paper")
    assert first.version and second.version and fresh.version
    assert second.version.digest == near.recommender.version.digest != first.version.digest
    assert 0 < second.cold_bytes < first.cold_bytes
    assert fresh.version.digest == second.version.digest


@pytest.mark.parametrize("lie", ["another form", "another base", "no transfer", "a bomb"])
def test_a_delta_that_lies_is_dropped_for_the_form(
    tmp_path: Path, scene: Scene, near: Scene, lie: str
) -> None:
    old, new = (encode_form(one.recommender.version, "int8") for one in (scene, near))
    packed = {
        "another form": pack(old, "int8", old),
        "another base": pack(new, "int8", new),
        "no transfer": b"no transfer at all",
        "a bomb": pack(new[:-1000] + bytes(1000), "int8", old),
    }[lie]

    def describe(said: wire.Description) -> wire.Description:
        changed = wire.Description()
        changed.CopyFrom(said)
        del changed.transfers[:]
        changed.transfers.add(
            form=version_digest(new),
            base=version_digest(old),
            digest=version_digest(packed),
            bytes=len(packed),
        )
        return changed

    service = near.service()
    lying = near.folder / "forms" / version_digest(packed)
    lying.write_bytes(packed)
    blobs = service.versions._blobs[near.recommender.version.digest]
    form = near.description().form("int8").digest
    blobs[version_digest(packed)] = blobs[form]._replace(path=lying, size=len(packed))
    server = Misbehaving(service, describe=describe)
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        description = connection.describe()
        fetched = connection.fetch_model(description, "int8", {version_digest(old): old}.get)
    assert fetched.data == new and server.fetches == [0, 0]
    assert fetched.received == len(packed) + len(new)


def test_a_form_is_resumed_where_its_stream_broke(tmp_path: Path) -> None:
    large = make_scene(tmp_path, items=8 * LARGE_ITEMS)
    form = large.description().form("int8")

    def whole_only(said: wire.Description) -> wire.Description:
        bare = wire.Description()
        bare.CopyFrom(said)
        del bare.transfers[:]
        return bare

    def broken(chunks: Chunks, offset: int) -> Iterator[wire.ModelChunk]:
        yield next(chunks)
        if len(server.fetches) < 3:
            raise ConnectionError("the stream broke")
        yield from chunks

    server = Misbehaving(large.service(), describe=whole_only, mangle=broken)
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        fetched = connection.fetch_model(connection.describe(), "int8")
    assert server.fetches == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]
    assert (version_digest(fetched.data), fetched.received) == (form.digest, form.size)


def test_a_version_that_is_replaced_before_it_is_fetched_is_described_again(
    tmp_path: Path, scene: Scene, near: Scene
) -> None:
    service = scene.service()
    service.versions = Catalog(scene.folder, grace=0.0)
    described = 0

    def describe(said: wire.Description) -> wire.Description:
        nonlocal described
        described += 1
        if described == 1:
            publish(service.versions, scene, near)
        return said

    server = Misbehaving(service, describe=describe)
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        session = Session(connection, VersionStore(tmp_path / "d"), scene.local, preset="paper")
    assert session.version is not None
    assert session.version.digest == near.recommender.version.digest
    assert described == 2


def publish(catalog: Catalog, scene: Scene, near: Scene) -> None:
    """Another version from the folder of the first."""
    write_version(scene.folder, near.recommender, near.description(), SECRET)
    catalog.publish(near.recommender.version.digest)
