"""Slim devices against a real server: they fetch no model and count what full devices count."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from client.link.connection import Connection
from client.run import DeviceRun, answer_users
from client.session import Session
from client.stores.ratings import write_local_ratings
from client.stores.versions import VersionStore
from common.errors import InputError, VicinalError
from common.wire import offload_pb2 as wire
from sims.commands.device_report import device_json
from tests.support.serving import USERS, Endpoint, Misbehaving, Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def test_slim_devices_fetch_no_model_and_count_the_same(tmp_path: Path, scene: Scene) -> None:
    server = Misbehaving(scene.service())
    ratings = tmp_path / "ratings"
    write_local_ratings(ratings, scene.local)
    with Endpoint(server) as endpoint:
        users = tuple(range(USERS))
        full = DeviceRun(endpoint.address, ratings, tmp_path / "full", "vicinal", users)
        expected = answer_users(full)
        fetches = len(server.fetches)
        slim = replace(full, store=tmp_path / "slim", slim=True)
        outcomes = [answer_users(slim), answer_users(slim, processes=2)]
    assert len(server.fetches) == fetches == 1
    for outcome in outcomes:
        assert outcome.cold_bytes == 0 and outcome.version == expected.version
        assert [one.counts for one in outcome.answered] == [one.counts for one in expected.answered]
    received = [one.received for one in outcomes[0].answered]
    assert received[0] > max(received[1:])  # what all packages share comes once
    assert json.loads(json.dumps(device_json(outcomes[0], "vicinal")))["bytes"]["cold"] == 0
    assert not list((tmp_path / "slim").glob("*.safetensors"))


def test_a_preset_that_needs_the_whole_model_is_refused_by_both_sides(
    tmp_path: Path, scene: Scene
) -> None:
    store = VersionStore(tmp_path / "device")
    with Endpoint(scene.service()) as endpoint, Connection(endpoint.address) as connection:
        with pytest.raises(InputError, match="min support above 1"):
            Session(connection, store, scene.local, preset="paper", slim=True)
        description = connection.describe()
        with pytest.raises(InputError, match=r"server .*: a slim device needs .* support above 1"):
            connection.package(description, 3, "paper", scene.local.own(3), slim=True)


def without_model(made: wire.OffloadPackage) -> wire.OffloadPackage:
    return wire.OffloadPackage(version=made.version, neighborhood=made.neighborhood)


def test_a_server_that_sends_no_part_of_the_model_is_seen(tmp_path: Path, scene: Scene) -> None:
    server = Misbehaving(scene.service(), package=without_model)
    store = VersionStore(tmp_path / "device")
    with Endpoint(server) as endpoint, Connection(endpoint.address) as connection:
        session = Session(connection, store, scene.local, preset="vicinal", slim=True)
        with pytest.raises(VicinalError, match="its tables are not the model's"):
            session.answer_one(3)
