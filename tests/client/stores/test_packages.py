"""Last packages on the disk: whose they are, how old, how many, and what damage does."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.link.replies import checked_package
from client.stores.packages import MAX_AGE_SECONDS, PackageStore
from common.errors import InputError
from common.wire import offload_pb2 as wire
from common.wire.messages import neighborhood_to_wire, own_to_wire
from common.wire.sealing import OtherRatingsError
from tests.support.serving import Scene, make_scene

SERVER = "127.0.0.1:50551"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def package_of(scene: Scene, user: int) -> wire.OffloadPackage:
    description = scene.description()
    made = scene.recommender.neighborhood(user, description.preset("paper"))
    package = wire.OffloadPackage(
        version=description.version, neighborhood=neighborhood_to_wire(made)
    )
    sealed = scene.local.own(user).seal(own_to_wire(made), description.version)
    package.neighborhood.sealed = sealed
    return package


def test_a_package_comes_back_with_its_age(tmp_path: Path, scene: Scene) -> None:
    now = 1000.0
    store = PackageStore(tmp_path, SERVER, clock=lambda: now)
    description = scene.description()
    store.keep(7, "paper", description, package_of(scene, 7))
    now = 1090.5
    kept = store.load(7, "paper")
    assert kept is not None
    assert (kept.description, kept.age) == (description, 90.5)
    made = scene.recommender.neighborhood(7, description.preset("paper"))
    own = scene.local.own(7)
    (found, _), _ = checked_package(kept.message, kept.description, "paper", own)
    assert found.ratings.digest() == made.ratings.digest()
    assert np.array_equal(
        found.user_parameters["user_embedding"], made.user_parameters["user_embedding"]
    )
    with pytest.raises(OtherRatingsError, match="not those of this device"):
        checked_package(kept.message, kept.description, "paper", scene.local.own(8))
    assert store.load(8, "paper") is None and store.load(7, "vicinal") is None
    assert PackageStore(tmp_path, "127.0.0.1:1").load(7, "paper") is None


@pytest.mark.parametrize("age", [MAX_AGE_SECONDS + 1, -61.0])
def test_a_package_of_another_age_is_none(tmp_path: Path, scene: Scene, age: float) -> None:
    now = MAX_AGE_SECONDS
    store = PackageStore(tmp_path, SERVER, clock=lambda: now)
    store.keep(7, "paper", scene.description(), package_of(scene, 7))
    now += age
    assert store.load(7, "paper") is None


def test_a_file_under_another_users_name_is_deleted(tmp_path: Path, scene: Scene) -> None:
    store = PackageStore(tmp_path, SERVER)
    store.keep(7, "paper", scene.description(), package_of(scene, 7))
    store.path(7, "paper").rename(store.path(8, "paper"))
    assert store.load(8, "paper") is None
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(st.data())
def test_damage_anywhere_is_seen(
    tmp_path_factory: pytest.TempPathFactory, scene: Scene, data: st.DataObject
) -> None:
    store = PackageStore(tmp_path_factory.mktemp("damaged"), SERVER)
    store.keep(7, "paper", scene.description(), package_of(scene, 7))
    path = store.path(7, "paper")
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place]
    else:
        flipped = whole[place] ^ (1 << data.draw(st.integers(0, 7)))
        damaged = whole[:place] + bytes([flipped]) + whole[place + 1 :]
    path.write_bytes(damaged)
    assert store.load(7, "paper") is None
    assert not path.exists()


def test_a_package_that_does_not_fit_its_description_is_of_no_use(
    tmp_path: Path, scene: Scene
) -> None:
    store = PackageStore(tmp_path, SERVER)
    other = package_of(scene, 7)
    other.version = "f" * 64
    store.keep(7, "paper", scene.description(), other)
    store.keep(8, "vicinal", scene.description(), package_of(scene, 8))  # of another k
    for user, preset in ((7, "paper"), (8, "vicinal")):
        kept = store.load(user, preset)
        assert kept is not None
        with pytest.raises(InputError, match=r"another model version|rows of others"):
            checked_package(kept.message, kept.description, preset, scene.local.own(user))


def test_the_oldest_leave_when_all_are_too_many(tmp_path: Path, scene: Scene) -> None:
    size = len(package_of(scene, 0).SerializeToString())
    cap = 40 * size
    store = PackageStore(tmp_path, SERVER, cap_bytes=cap)
    for user in range(40):
        store.keep(user, "paper", scene.description(), package_of(scene, user))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= cap
    assert store.load(0, "paper") is None and store.load(39, "paper") is not None
    latest = store.latest("paper")
    assert latest is not None and latest.description == scene.description()


def test_what_cannot_be_kept_is_no_error(tmp_path: Path, scene: Scene) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = PackageStore(tmp_path / "file", SERVER)
    store.keep(7, "paper", scene.description(), package_of(scene, 7))
    assert store.load(7, "paper") is None and store.latest("paper") is None
    small = PackageStore(tmp_path / "small", SERVER, cap_bytes=100)
    small.keep(7, "paper", scene.description(), package_of(scene, 7))
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("preset", ["", "../paper", "a b", "x" * 41])
def test_a_preset_that_is_no_file_name_is_refused(tmp_path: Path, preset: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a file"):
        PackageStore(tmp_path, SERVER).path(0, preset)
