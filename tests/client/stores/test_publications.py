"""A device takes no version that is older than one it has seen of the server."""

from dataclasses import replace
from pathlib import Path

import pytest

from client.disclosure import Disclosure
from client.link.connection import Connection, NoAnswerError
from client.session import Session
from client.stores.packages import PackageStore
from client.stores.publications import Publications
from client.stores.versions import VersionStore
from common.wire import offload_pb2 as wire
from server.versions.folder import next_publication
from tests.support.serving import Endpoint, Misbehaving, Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def test_the_largest_number_is_remembered_for_each_server(tmp_path: Path) -> None:
    Publications(tmp_path).check("here:1", 7)
    seen = Publications(tmp_path)
    seen.check("here:1", 7)
    seen.check("here:1", 9)
    seen.check("there:1", 3)
    with pytest.raises(NoAnswerError, match="version 8, which is older than 9") as refused:
        seen.check("here:1", 8)
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)
    for path in tmp_path.iterdir():
        path.write_text("damaged")
    seen.check("here:1", 1)


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    Publications(tmp_path / "file").check("here:1", 7)


def test_numbers_grow_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 2000.0)
    first = next_publication(tmp_path)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert (first, next_publication(tmp_path), next_publication(tmp_path)) == (2000, 2001, 2002)
    monkeypatch.setattr("time.time", lambda: 3000.0)
    assert next_publication(tmp_path) == 3000
    # Of a store that was lost.
    assert next_publication(tmp_path / "new") == 3000


def test_an_old_version_is_not_taken_again(tmp_path: Path, scene: Scene) -> None:
    published = 50

    def described(said: wire.Description) -> wire.Description:
        said.publication = published
        return said

    server = Misbehaving(scene.service(), describe=described)
    with Endpoint(server) as endpoint, Connection(endpoint.address, patience=1) as connection:

        def session(packages: bool) -> Session:
            return Session(
                connection,
                VersionStore(tmp_path / "device"),
                scene.local,
                preset="paper",
                packages=PackageStore(tmp_path / "packages", endpoint.address)
                if packages
                else None,
                disclosure=Disclosure(least_users=1),
            )

        fresh = session(True).answer_one(7)
        published = 49
        with pytest.raises(NoAnswerError, match="older than 50"):
            session(False)
        # With a package of before there is an answer, and it is that of before.
        stale = session(True).answer_one(7)
    assert stale.counts.stale == 1 and stale.items == fresh.items
    assert replace(fresh.counts, on_device=0, stale=1) == stale.counts
