"""Devices that are sent cut rows and no vectors: their answers, and what there is in a package."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.disclosure import Disclosure
from client.link.connection import Connection
from client.session import Session
from client.stores.versions import VersionStore
from common.errors import VicinalError
from common.wire import offload_pb2 as wire
from tests.support.scenes import PRESETS
from tests.support.serving import USERS, Endpoint, Misbehaving, Scene, make_scene

CUT = replace(PRESETS["vicinal"], row_cap=4, fold_in=True)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setitem(PRESETS, "vicinal", CUT)
    return make_scene(tmp_path)


@pytest.mark.parametrize("slim", [False, True])
def test_a_device_answers_as_the_server_does(tmp_path: Path, scene: Scene, slim: bool) -> None:
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        session = Session(
            connection,
            VersionStore(tmp_path / "device"),
            scene.local,
            preset="vicinal",
            slim=slim,
            disclosure=Disclosure(least_users=1),
        )
        description = session.description
        assert description.preset("vicinal") == CUT
        answered = [one for batch in session.answer(range(USERS)) for one in batch]
        served = [connection.recommend(description, user, "vicinal") for user in range(USERS)]
    assert [list(one.items) for one in answered] == served
    expected = [scene.recommender.recommend(user, CUT, 10).tolist() for user in range(USERS)]
    assert served == expected
    # With whole rows and trained vectors other lists come out.
    whole = replace(CUT, row_cap=0, fold_in=False)
    assert expected != [
        scene.recommender.recommend(user, whole, 10).tolist() for user in range(USERS)
    ]


def test_a_package_has_no_vectors_and_few_ratings_of_each(tmp_path: Path, scene: Scene) -> None:
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        description = connection.describe()
        for user in range(USERS):
            own = scene.local.own(user)
            package = connection.package(description, user, "vicinal", own)
            opened = own.unseal(package.message.neighborhood.sealed, description.version)
            assert not package.message.neighborhood.user_parameters
            assert not opened.user_parameters and not package.neighborhood.user_parameters
            assert np.diff(package.neighborhood.ratings.indptr)[1:].max() <= 4


@pytest.mark.parametrize(("sent", "told"), [(False, True), (True, False)])
def test_vectors_that_should_not_be_or_are_not_there_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bool, told: bool
) -> None:
    """The second is a device of before, which does not know that none are sent."""
    monkeypatch.setitem(PRESETS, "vicinal", replace(CUT, fold_in=not sent))
    scene = make_scene(tmp_path)

    def describe(said: wire.Description) -> wire.Description:
        said = wire.Description.FromString(said.SerializeToString())
        for each in said.presets:
            each.fold_in = not told if each.name == "vicinal" else each.fold_in
        return said

    server = Misbehaving(scene.service(), describe=describe)
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        description = connection.describe()
        with pytest.raises(VicinalError, match="user parameters are not the model's"):
            connection.package(description, 3, "vicinal", scene.local.own(3))
