"""Gateways that tests share."""

from collections.abc import Iterator

import pytest

from server.trust.limits import RateLimit
from tests.support.gates import make_gate
from tests.support.gateways import KEYS, GatewayProcess, Pair, named, write_ids
from tests.support.serving import Endpoint, make_scene


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A server that asks for tokens, and a map of ids."""
    folder = tmp_path_factory.mktemp("guarded")
    scene = named(make_scene(folder))
    ids = write_ids(folder / "ids.csv")
    gate = make_gate(scene, KEYS, RateLimit(0.001))
    with (
        Endpoint(scene.service(), gates=[gate]) as server,
        GatewayProcess(folder, server.address, "--ids", str(ids)) as gateway,
    ):
        yield Pair(scene, server, gateway)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A server that is open to this machine, without names."""
    folder = tmp_path_factory.mktemp("plain")
    scene = make_scene(folder)
    with (
        Endpoint(scene.service(), gates=[make_gate(scene)]) as server,
        GatewayProcess(folder, server.address) as gateway,
    ):
        yield Pair(scene, server, gateway)
