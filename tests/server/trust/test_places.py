"""Places of calls: parts of an address, of a token, and a reserve."""

import asyncio
from contextlib import ExitStack

import pytest

from server.trust import places
from server.trust.places import MAX_ARRIVING, Arrivals, CallLimits, CrowdedError, Places


def refused(places: Places, peer: str, token: object = None, *, halved: bool = False) -> str:
    try:
        with places.taken(peer, token, halved=halved):
            return ""
    except CrowdedError as error:
        return error.reason


def test_an_address_and_a_token_have_their_parts() -> None:
    places = Places(CallLimits(100, 4, 2))
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(places.taken("a", range(1)))
        assert refused(places, "a", range(1)) == refused(places, "b", range(1)) == "calls_token"
        assert refused(places, "a", range(2)) == ""
        for _ in range(2):
            stack.enter_context(places.taken("a", range(2)))
        assert refused(places, "a", range(3)) == refused(places, "a") == "calls_peer"
        assert refused(places, "b", range(3)) == refused(places, "b") == ""
    assert places.count == 0
    assert refused(places, "a", range(1)) == ""


def test_calls_without_a_token_leave_half_of_an_address_to_tokens() -> None:
    places = Places(CallLimits(100, 4, 2))
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(places.taken("a", None, halved=True))
        assert refused(places, "a", halved=True) == "calls_peer"
        assert refused(places, "a", range(1)) == ""
        assert refused(places, "a") == ""


def test_the_last_places_are_for_those_who_have_none() -> None:
    places = Places(CallLimits(16, 16, 16))
    with ExitStack() as stack:
        for _ in range(14):
            stack.enter_context(places.taken("a", None))
        assert refused(places, "a") == "calls"
        for peer in ("b", "c"):
            stack.enter_context(places.taken(peer, None))
        assert refused(places, "d") == "calls"


def test_parts_of_a_total() -> None:
    assert CallLimits.of(4096) == CallLimits(4096, 128, 64)
    assert CallLimits.of(1) == CallLimits(1, 1, 1)
    assert CallLimits.of(4096, 9, 3) == CallLimits(4096, 9, 3)


def test_the_oldest_of_too_many_unfinished_requests_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, "CROWDED_ARRIVAL_SECONDS", 0.0)

    async def run() -> None:
        arrivals = Arrivals()
        tasks = [asyncio.create_task(asyncio.sleep(60)) for _ in range(MAX_ARRIVING + 3)]
        done = tasks[0]
        dropped = [arrivals.begin(task) for task in tasks[:1]]
        # A request that is whole is no longer among them.
        arrivals.end(done)
        dropped += [arrivals.begin(task) for task in tasks[1:]]
        assert sum(dropped) == 2
        await asyncio.sleep(0)
        assert [task.cancelled() for task in tasks[:4]] == [False, True, True, False]
        for task in tasks:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await done

    asyncio.run(run())


def test_requests_that_came_together_are_not_unfinished_yet() -> None:
    async def run() -> None:
        arrivals = Arrivals()
        tasks = [asyncio.create_task(asyncio.sleep(60)) for _ in range(4 * MAX_ARRIVING)]
        assert sum(arrivals.begin(task) for task in tasks) == 0
        for task in tasks:
            task.cancel()

    asyncio.run(run())
