"""The catalog: which versions are answered for, for how long, and how devices come by them."""

import asyncio
import shutil
from pathlib import Path

import pytest

from common.errors import InputError
from common.versions.encodings import ENCODINGS, encode_form
from common.versions.transfers import unpack
from common.wire.description import description_from_wire
from server.versions import catalog as module
from server.versions.catalog import Catalog, VersionGoneError
from server.versions.folder import make_current, write_version
from tests.support.serving import SECRET, Scene, make_scene


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    """Three versions of one shape."""
    return [make_scene(tmp_path, seed=seed) for seed in range(3)]


def catalog(folder: Path, scenes: list[Scene], clock: Clock) -> Catalog:
    """Serves the first; the others lie in the folder."""
    for scene in scenes:
        write_version(folder, scene.recommender, scene.description(), SECRET)
    make_current(folder, name(scenes[0]))
    return Catalog(folder, grace=10, clock=clock)


def name(scene: Scene) -> str:
    return scene.recommender.version.digest


def test_a_replaced_version_is_kept_for_its_grace_and_then_gone(
    tmp_path: Path, scenes: list[Scene]
) -> None:
    clock, folder = Clock(), tmp_path / "folder"
    served = catalog(folder, scenes, clock)
    first, second, _ = map(name, scenes)
    assert served.publish(second).description.version == second
    assert served.current.description.version == second
    clock.now = 9.9
    assert served.find(first).description == scenes[0].description()
    assert served.blob(first, "").size == len(scenes[0].data)
    clock.now = 10.0
    with pytest.raises(VersionGoneError):
        served.find(first)
    with pytest.raises(VersionGoneError):
        served.blob(first, "")
    served.expire()
    assert not (folder / first).exists() and (folder / second).exists()
    assert Catalog(folder).current.description.version == second


def test_a_version_that_comes_back_is_current_again(tmp_path: Path, scenes: list[Scene]) -> None:
    clock = Clock()
    served = catalog(tmp_path / "folder", scenes, clock)
    first, second, _ = map(name, scenes)
    served.publish(second)
    served.publish(first)
    clock.now = 1000.0
    served.expire()
    assert served.find(first).until is None
    with pytest.raises(VersionGoneError):
        served.find(second)


def test_no_more_versions_are_kept_than_memory_was_meant_for(
    tmp_path: Path, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_VERSIONS", 2)
    monkeypatch.setattr(module, "MAX_BASES", 2)
    folder = tmp_path / "folder"
    served = catalog(folder, scenes, Clock())
    first, second, third = map(name, scenes)
    served.publish(second)
    served.publish(third)
    with pytest.raises(VersionGoneError):
        served.find(first)
    for kept in (second, third):
        assert served.find(kept).description.version == kept
    gone = {form.digest for form in scenes[0].description().all_forms}
    assert not gone & {path.name for path in (folder / "forms").iterdir()}


def test_a_version_that_is_not_whole_is_not_published(tmp_path: Path, scenes: list[Scene]) -> None:
    folder = tmp_path / "folder"
    served = catalog(folder, scenes, Clock())
    shutil.rmtree(folder / name(scenes[1]))
    with pytest.raises(InputError, match="cannot be read"):
        served.publish(name(scenes[1]))
    assert served.current.description.version == name(scenes[0])
    assert served.current.until is None


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_delta_leads_from_a_held_form_to_the_current_one(
    tmp_path: Path, scenes: list[Scene], encoding: str
) -> None:
    # Versions that differ in a few rows.
    scenes[1] = near(tmp_path, scenes[0])
    clock = Clock()
    served = catalog(tmp_path / "folder", scenes, clock)
    served.publish(name(scenes[1]))
    clock.now = 1000.0
    served.expire()
    old, new = (scene.description().form(encoding) for scene in scenes[:2])  # type: ignore[arg-type]

    async def use() -> None:
        plain = description_from_wire(await served.describe(encoding, ["f" * 64]))
        assert plain == scenes[1].description()
        description = description_from_wire(await served.describe(encoding, ["f" * 64, old.digest]))
        (delta,) = [way for way in description.transfers if way.base is not None]
        assert (delta.base, delta.form) == (old.digest, new.digest)
        assert delta.size < min(way.size for way in plain.transfers if way.form == new.digest)
        again = await served.describe(encoding, [old.digest])
        assert description_from_wire(again).transfers == description.transfers
        packed = served.blob(description.version, delta.digest).path.read_bytes()
        base = encode_form(scenes[0].recommender.version, old.encoding)
        data = encode_form(scenes[1].recommender.version, old.encoding)
        assert unpack(packed, old.encoding, new.size, base) == data
        current = description_from_wire(await served.describe(encoding, [new.digest, old.digest]))
        assert current == plain
        with pytest.raises(InputError, match="unknown encoding"):
            await served.describe("int4", [])

    asyncio.run(use())


def near(folder: Path, scene: Scene) -> Scene:
    """A version that differs from the scene's in a few rows."""
    return make_scene(folder, like=scene)
