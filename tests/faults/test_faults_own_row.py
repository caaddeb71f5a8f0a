"""A server that anybody may ask: what its packages say of the user whom they are for."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.vicinal.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.packing import MAX_VARINT, decode_varints, unpack
from common.wire.rounding import encode_rows
from common.wire.sealing import OtherRatingsError
from server.workers.frames import Status
from server.workers.worker import VersionHandler
from tests.support.scenes import SECRET, USERS, Scene, make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def dumped(scene: Scene, user: int, preset: str, *, slim: bool) -> wire.OffloadPackage:
    """What a stranger gets who asks for a user."""
    handler = VersionHandler(scene.recommender, scene.description(), SECRET)
    version = scene.description().version
    request = wire.PackageRequest(version=version, user=user, preset=preset, slim=slim, shared=slim)
    result = handler.answer("GetPackage", request.SerializeToString())
    assert result.status is Status.ANSWERED
    return wire.OffloadPackage.FromString(result.data)


def rows_of(package: wire.OffloadPackage) -> list[list[int]]:
    """Items of every row that was sent, read without a device's help."""
    message = package.neighborhood
    lengths = np.array(message.row_lengths, dtype=np.int64)
    count = int(lengths.sum())
    gaps = decode_varints(unpack(message.items, most=MAX_VARINT * count), count)
    ends = np.cumsum(lengths)[:-1]
    return [(np.cumsum(row + 1) - 1).tolist() for row in np.split(gaps, ends)]


def test_nobodys_profile_can_be_dumped(scene: Scene) -> None:
    ratings = scene.recommender.ratings
    for user in range(USERS):
        package = dumped(scene, user, "paper", slim=False)
        rows = rows_of(package)
        assert len(rows) == scene.description().preset("paper").neighbors - 1
        assert ratings.items_of(user).tolist() not in rows
        vector = scene.recommender.stored.user_parameters["user_embedding"][[user]]
        assert encode_rows(vector)[1:] not in package.SerializeToString()


def test_a_slim_package_has_no_row_of_the_model_for_what_only_the_user_rated(
    scene: Scene,
) -> None:
    table = scene.recommender.version.parameters["item_embedding"]
    for user in range(USERS):
        package = dumped(scene, user, "vicinal", slim=True)
        sent = np.unique(np.concatenate([np.array(row, dtype=int) for row in rows_of(package)]))
        assert package.model.rows["item_embedding"] == table[sent].tobytes()


def test_no_item_is_there_because_the_user_rated_it(scene: Scene) -> None:
    # Seen without the user: what min support lets through of the others' rows alone.
    settings = scene.description().preset("vicinal")
    ratings, hidden = scene.recommender.ratings, 0
    for user in range(USERS):
        package = dumped(scene, user, "vicinal", slim=False)
        sent = Counter(item for row in rows_of(package) for item in row)
        assert min(sent.values()) >= settings.min_support
        own = scene.local.own(user).unseal(package.neighborhood.sealed, package.version)
        hidden += sum(own.hidden.row_lengths)
        assert set(sent) - set(ratings.items_of(user).tolist())
    assert hidden > 0


def test_only_the_users_device_opens_what_is_sealed(scene: Scene, tmp_path: Path) -> None:
    version = scene.description().version
    sealed = dumped(scene, 7, "paper", slim=False).neighborhood.sealed
    opened = scene.local.own(7).unseal(sealed, version)
    vector = scene.recommender.stored.user_parameters["user_embedding"][[7]]
    assert opened.user_parameters["user_embedding"] == encode_rows(vector)
    for other in range(USERS):
        if other != 7:
            with pytest.raises(OtherRatingsError, match="not those of this device"):
                scene.local.own(other).unseal(sealed, version)


def test_no_item_is_there_because_of_a_draw_that_the_users_ratings_decide(scene: Scene) -> None:
    # Whoever knows all that a user rated but for an item or two could try which of them fit.
    presets = {"vicinal": VicinalSettings(12, 0.2, 5, assumed_fakes=0.2, margin=6, exploration=0.5)}
    ratings = scene.recommender.ratings
    required = presets["vicinal"].required_raters(ratings.user_count)
    description = replace(scene.description(), presets=presets)
    handler = VersionHandler(scene.recommender, description, SECRET)
    drawn = 0
    for user in range(USERS):
        request = wire.PackageRequest(version=description.version, user=user, preset="vicinal")
        result = handler.answer("GetPackage", request.SerializeToString())
        package = wire.OffloadPackage.FromString(result.data)
        sent = sorted({item for row in rows_of(package) for item in row})
        assert (ratings.item_counts()[sent] >= required).all()
        own = scene.local.own(user).unseal(package.neighborhood.sealed, package.version)
        drawn += sum(own.hidden.row_lengths)
    assert drawn > 0
