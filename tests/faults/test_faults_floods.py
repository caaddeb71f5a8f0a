"""One caller who wants everything harms nobody: real server, attacker and device processes.

Only what a busy machine does not change is asked for here; `python -m tests.faults.support.floods`
prints times and memory too.
"""

from collections.abc import Iterator

import pytest

from tests.faults.support.attacker import FLOODS
from tests.faults.support.floods import HERE, Flooded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
# Why the server refused something, of which it is enough to see one.
REASONS = {
    "4,096 Health.Watch on one connection": set(),
    "30 Health.Watch on each of 200 connections": {"calls_peer"},
    "30 unfinished requests on each of 200 connections": {"unfinished"},
    "4,096 mute connections": {"connections_peer", "silent"},
    "200 calls at a time": {"queue", "calls_token"},
    "HTTP/2 rapid reset": {"bytes"},
    "600 half-sent scrapes": set(),
    "mute connections, streams and calls": {"connections_peer", "silent"},
}


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flooded]:
    with Flooded(tmp_path_factory.mktemp("flooded")) as opened:
        yield opened


def test_every_flood_is_tried() -> None:
    assert set(REASONS) == set(FLOODS)


@pytest.mark.parametrize("flood", REASONS)
def test_one_caller_stops_nobody(flooded: Flooded, flood: str) -> None:
    before = flooded.server.resident_mib()
    part = flooded.part(flood, 3.0, flood)
    assert part.failed == [] and len(part.seconds) >= 8
    assert part.memory < before + 150
    assert not REASONS[flood] or REASONS[flood] & set(part.refused)
    assert flooded.threads() < 64


def test_callers_of_one_address_have_equal_parts_by_token(flooded: Flooded) -> None:
    part = flooded.part("here", 3.0, "200 calls at a time", HERE)
    assert part.failed == [] and len(part.seconds) >= 8
    assert {"queue", "calls_token"} & set(part.refused)
