"""Devices by id: files that know their own user, and maps held against the version's digest."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load, save

from client.run import DeviceRun, answer_users
from client.stores.ratings import (
    ITEMS_FILE,
    read_local_ratings,
    users_named,
    write_device_files,
    write_items,
    write_local_ratings,
)
from common.errors import InputError
from common.ids import Names, map_csv, read_map
from tests.support.serving import USERS, Endpoint, Scene, make_scene

IDS = tuple(f"user, {name}" for name in range(USERS))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    (tmp_path / "scene").mkdir()
    return make_scene(tmp_path / "scene")


@pytest.fixture
def folder(tmp_path: Path, scene: Scene) -> Path:
    write_device_files(tmp_path / "devices", replace(scene.local, ids=IDS))
    return tmp_path / "devices"


@pytest.fixture
def run(tmp_path: Path, scene: Scene, folder: Path) -> Iterator[DeviceRun]:
    with Endpoint(scene.service()) as endpoint:
        yield DeviceRun(endpoint.address, folder, tmp_path / "device", "vicinal", (3,))


def test_a_device_file_knows_its_own_user_and_nobody_else(folder: Path) -> None:
    data = (folder / "3.safetensors").read_bytes()
    assert read_local_ratings(folder / "3.safetensors").ids == ("user, 3",)
    assert b"user, 3" in data and b"user, 2" not in data
    assert read_local_ratings(folder, [5, 3]).ids == ("user, 3", "user, 5")


def test_users_are_found_in_files_by_their_ids(tmp_path: Path, scene: Scene, folder: Path) -> None:
    write_local_ratings(tmp_path / "all", replace(scene.local, ids=IDS))
    for path in (folder, tmp_path / "all"):
        assert users_named(path, ("id:user, 5", 2)) == (5, 2)
        with pytest.raises(InputError, match="did you mean user, 5"):
            users_named(path, ("id:User, 5",))
        with pytest.raises(InputError, match="twice"):
            users_named(path, ("id:user, 5", 5))


def test_a_file_of_before_has_no_ids_and_is_read(tmp_path: Path, scene: Scene) -> None:
    write_local_ratings(tmp_path / "old", scene.local)
    assert read_local_ratings(tmp_path / "old").ids is None
    assert users_named(tmp_path / "old", (4,)) == (4,)
    with pytest.raises(InputError, match="no ids of users"):
        users_named(tmp_path / "old", ("id:4",))


@pytest.mark.parametrize("ids", ["[1]", "{", '{"a": 1}', '["a", "b"]'])
def test_ids_that_are_none_are_refused(folder: Path, ids: str) -> None:
    path = folder / "3.safetensors"
    path.write_bytes(save(load(path.read_bytes()), metadata={"ids": ids}))
    with pytest.raises(InputError):
        read_local_ratings(path)


def test_items_are_called_what_the_map_says(scene: Scene, run: DeviceRun, folder: Path) -> None:
    items = scene.local.train.item_count
    assert answer_users(run).names == Names()
    titles = tuple(f"title {item}" for item in range(items))
    write_items(folder, Names(None, titles), items)
    found = answer_users(run)
    assert found.names.title_of(2) == "title 2"
    assert found.users == {3: "user, 3"}


def test_a_map_of_other_items_is_refused(
    tmp_path: Path, scene: Scene, run: DeviceRun, folder: Path
) -> None:
    items = scene.local.train.item_count
    others = Names(tuple(f"other {item}" for item in range(items)))
    write_items(folder, others, items)
    with pytest.raises(InputError, match="map of other items"):
        answer_users(run)
    (folder / ITEMS_FILE).unlink()
    text = map_csv(Names(), items, Names(("somebody",)), 1)
    (tmp_path / "ids.csv").write_text(text)
    with pytest.raises(InputError, match="map of other users"):
        answer_users(replace(run, names=read_map(tmp_path / "ids.csv")))


def test_a_map_may_be_of_a_version_before_or_after(
    scene: Scene, run: DeviceRun, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = scene.local.train.item_count
    titles = tuple(f"title {item}" for item in range(items + 1))
    # Items have come since the version that is served: those before them keep their indices.
    write_items(folder, Names(None, titles), items + 1)
    assert answer_users(run).names.title_of(items - 1) == f"title {items - 1}"
    # A map of fewer items cannot be held against the digest: who did not ask for it goes on.
    write_items(folder, Names(None, titles), items - 1)
    assert answer_users(run).names == Names()
    assert "items have come since" in caplog.text
    with pytest.raises(InputError, match="or of fewer"):
        answer_users(replace(run, names=read_map(folder / ITEMS_FILE)))
