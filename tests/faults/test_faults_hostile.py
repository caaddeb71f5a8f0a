"""A server that lies costs a device one line, bounded memory and bounded time."""

from pathlib import Path

import pytest

from client.budget import Budget
from client.link.connection import Connection, NoAnswerError
from client.session import Session
from client.stores.packages import PackageStore
from client.stores.versions import VersionStore
from common.errors import InputError
from common.wire import offload_pb2 as wire
from common.wire.description import description_from_wire
from tests.faults.support.lies import lies
from tests.faults.support.lying import honest_description, tell
from tests.support.serving import Endpoint, Misbehaving, Scene, make_scene

NAMES = [
    *("2²⁷ items in a slim package", "2²⁷ items in a whole model"),
    *("4,096 rows of other items each", "10,000 steps"),
    *("30,000 rows, whose table of pairs is 7 GB", "a closed form of 8,000 rows"),
    *("a closed form without a solution", "fewer items than the user has rated"),
    *("more ratings than bytes", "more sealed ratings than bytes"),
    *("ids that unpack to 64 MiB", "noise", "nothing"),
    *("weights of 10¹⁹ in a slim package", "a Gram matrix of 10³⁰", "weights of 10¹⁹ in a model"),
    *("a version of 1 GiB", "a version that never ends"),
    *("names of presets that a terminal obeys", "another preset than is asked for"),
    *("ten million watched items", "a list of 2³² items", "a line of a megabyte"),
    "an answer of 40 MB",
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def test_every_lie_is_told(scene: Scene) -> None:
    assert list(lies(honest_description(scene))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_lie_ends_in_one_line(scene: Scene, tmp_path: Path, name: str) -> None:
    honest = honest_description(scene)
    told = tell(tmp_path / "device", scene, honest, lies(honest)[name])
    assert told.good, told


@pytest.mark.parametrize("option", ["--memory", "--seconds"])
def test_a_refusal_says_what_was_asked_for_and_what_raises_the_budget(
    scene: Scene, tmp_path: Path, option: str
) -> None:
    honest = honest_description(scene)
    name = "2²⁷ items in a slim package" if option == "--memory" else "10,000 steps"
    told = tell(tmp_path / "device", scene, honest, lies(honest)[name])
    asked = "134,217,728 items" if option == "--memory" else "in 10,000 steps"
    assert asked in told.lines[0] and f"{option} raises it" in told.lines[0]


def test_what_is_too_much_is_answered_from_the_last_package(scene: Scene, tmp_path: Path) -> None:
    server = Misbehaving(scene.service())
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        store = VersionStore(tmp_path / "device")
        packages = PackageStore(store.folder / "packages", endpoint.address)
        session = Session(connection, store, scene.local, preset="vicinal", packages=packages)
        before = session.answer_one(3)
        with (
            Connection(endpoint.address, budget=Budget(seconds=1e-9)) as hurried,
            pytest.raises(NoAnswerError, match="--seconds raises it"),
        ):
            hurried.package(session.description, 3, "vicinal", scene.local.own(3))
        server._package = _many
        after = session.answer_one(3)
    assert (before.counts.stale, after.counts.stale) == (0, 1)
    assert after.items == before.items


def _many(made: wire.OffloadPackage) -> wire.OffloadPackage:
    """Row lengths that would take gigabytes to unpack."""
    made.neighborhood.row_lengths[:] = [10_000_000] * len(made.neighborhood.row_lengths)
    return made


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("watched_items", [3] * 70_000),
        ("list_length", 10_001),
        ("forms", [wire.Form()] * 4),
        ("transfers", [wire.Transfer()] * 65),
        ("presets", [wire.Preset(name=f"p{place}") for place in range(65)]),
        ("presets", [wire.Preset(name="\x1b[2J")]),
    ],
)
def test_a_description_is_counted_before_it_is_read(
    scene: Scene, field: str, values: object
) -> None:
    said = honest_description(scene)
    if isinstance(values, int):
        setattr(said, field, values)
    else:
        getattr(said, field).extend(values)
    with pytest.raises(InputError, match=r"more than \d+$|cannot name a preset"):
        description_from_wire(said)
