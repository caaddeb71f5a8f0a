"""Members: versions go from one serving folder to another, and all begin with them."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from common.files import write_secret
from server.cluster import member as module
from server.cluster.blobs import BlobsAwayError, BlobStore
from server.cluster.member import Member, Membership
from server.cluster.registry import Registry
from server.cluster.sharing import fetch, held, share
from server.sql.postgresql import Database
from server.versions.catalog import Catalog, Served
from server.versions.folder import make_current, read_serving, write_version
from sims.processes.postgresql import PostgreSQL
from tests.support.places import new_schema
from tests.support.serving import SECRET, Scene, make_scene

GRACE = 60.0


@pytest.fixture
def address(postgresql: PostgreSQL) -> str:
    return postgresql.database(new_schema())


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    with Database(address) as opened:
        yield opened


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    return [make_scene(tmp_path, seed=seed) for seed in range(2)]


def written(folder: Path, scene: Scene, publication: int) -> str:
    description = scene.description()
    description = description.__class__(**{**vars(description), "publication": publication})
    write_version(folder, scene.recommender, description, SECRET)
    return description.version


def joined(database: Database, folder: Path, name: str, blobs: BlobStore) -> Membership:
    registry = Registry(database, name, name, GRACE)
    folder.mkdir(exist_ok=True)
    return Membership(registry, blobs, folder / "serving", folder / "ids", folder, SECRET)


def test_a_version_is_the_same_in_every_folder(
    tmp_path: Path, database: Database, scenes: list[Scene]
) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    one, two = (joined(database, tmp_path / name, name, blobs) for name in "ab")
    version = written(one.folder, scenes[0], 5)
    one.ids.write_text('{"users": [], "items": []}')
    turn = one.registry.turn()
    assert turn is not None
    share(one.folder, version, one.ids, blobs, one.registry, turn.fence)
    (shared,) = two.registry.seen().versions
    assert not held(two.folder, shared)
    fetch(two.folder, shared, two.ids, two.store, SECRET, blobs)
    assert held(two.folder, shared)
    there = {
        path.relative_to(folder): path.read_bytes()
        for folder in (one.folder, two.folder)
        for path in folder.rglob("*")
        if path.is_file()
    }
    for relative, data in there.items():
        assert (one.folder / relative).read_bytes() == data, relative
    assert two.ids.read_text() == one.ids.read_text()
    recommender, _ = read_serving(two.folder, version)
    assert recommender.ratings.digest() == scenes[0].recommender.ratings.digest()


@pytest.mark.parametrize("what", ["bit", "gone", "longer"])
def test_a_version_that_was_spoiled_is_not_taken(
    tmp_path: Path, database: Database, scenes: list[Scene], what: str
) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    one, two = (joined(database, tmp_path / name, name, blobs) for name in "ab")
    version = written(one.folder, scenes[0], 5)
    turn = one.registry.turn()
    assert turn is not None
    share(one.folder, version, one.ids, blobs, one.registry, turn.fence)
    (shared,) = two.registry.seen().versions
    digest = shared.files["server.safetensors"].digest
    path = tmp_path / "blobs" / digest[:2] / digest
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data) + (b"x" if what == "longer" else b""))
    if what == "gone":
        path.unlink()
    with pytest.raises(BlobsAwayError):
        fetch(two.folder, shared, two.ids, two.store, SECRET, blobs)
    assert not held(two.folder, shared)


def test_members_take_over_what_one_of_them_made(
    tmp_path: Path, database: Database, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)
    blobs = BlobStore(str(tmp_path / "blobs"))
    abouts = [joined(database, tmp_path / name, name, blobs) for name in "abc"]
    served: list[list[str]] = [[], [], []]
    kept: list[list[str]] = [[], [], []]

    def member(at: int) -> tuple[Member, Catalog]:
        about = abouts[at]
        versions = Catalog(about.folder, grace=GRACE)

        def published(one: Served) -> None:
            served[at].append(one.description.version)

        def keeps(one: Served) -> None:
            kept[at].append(one.description.version)

        return Member(about, versions, published, keeps, grace=GRACE), versions

    first = ""
    for about in abouts:
        first = written(about.folder, scenes[0], 5)
        make_current(about.folder, first)
    turn = abouts[0].registry.turn()
    assert turn is not None
    share(abouts[0].folder, first, abouts[0].ids, blobs, abouts[0].registry, turn.fence)

    async def play() -> None:
        one, two = member(0), member(1)
        tasks = [asyncio.create_task(each.run()) for each, _ in (one, two)]
        try:
            await until(lambda: one[0].fence is not None)
            assert two[0].fence is None
            second = written(abouts[0].folder, scenes[1], 7)
            fence, number = await one[0].begin()
            await one[0].share(second, fence)
            await one[0].done(fence, number)
            await until(lambda: served[:2] == [[second], [second]])
            assert two[1].current.description.version == second
            # What a device had before is answered by both still.
            assert one[1].serves(first) and two[1].serves(first)
            # And by one who comes later: it was not there when that version was current.
            shutil.rmtree(abouts[2].folder)
            written(abouts[2].folder, scenes[1], 7)
            make_current(abouts[2].folder, second)
            three, versions = member(2)
            tasks.append(asyncio.create_task(three.run()))
            await until(lambda: kept[2] == [first])
            assert versions.serves(first) and versions.current.description.version == second
            tasks[0].cancel()
            with suppress(asyncio.CancelledError):
                await tasks[0]
            others = [two[0], three]
            await until(lambda: any(each.fence is not None for each in others))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(play())
    assert served[0] == served[1] and not served[2]


async def until(holds: object) -> None:
    assert callable(holds)
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


def test_the_devices_secret_is_that_of_all(tmp_path: Path, database: Database) -> None:
    write_secret(tmp_path / "devices.key", SECRET)
    assert database.secret("devices", SECRET) == SECRET
    assert database.secret("devices", bytes(32)) == SECRET
