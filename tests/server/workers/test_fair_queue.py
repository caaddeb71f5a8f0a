"""Turns, shares and refusals of callers, without workers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from server.workers.fair_queue import MEMORY_SECONDS, FairQueue, Shares, Waiting
from server.workers.tarpit import LONGEST_SECONDS, MAX_WAITING, Tarpit


def in_loop(use: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await use()

    asyncio.run(run())


def filled(*callers: str) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue()
    for place, caller in enumerate(callers):
        queue.append(Waiting(caller, float(place)))
    return queue


def test_callers_take_turns_and_their_own_stay_in_order() -> None:
    async def use() -> None:
        queue = filled(*"aaaabbc")
        assert (len(queue), queue.of("a"), queue.of("x")) == (7, 4, 0)
        order = []
        while len(queue):
            one = queue.popleft()
            order.append(f"{one.caller}{one.seconds:.0f}")
        assert order == ["a0", "b4", "c6", "a1", "b5", "a2", "a3"]
        assert queue.callers == []

    in_loop(use)


def test_a_newcomer_waits_for_one_of_each_other_caller() -> None:
    async def use() -> None:
        queue = filled(*"aaab")
        assert queue.seconds_before("x") == 0 + 3
        assert queue.seconds_before("b") == 0 + 1 + 3
        assert queue.seconds_before("a") == 0 + 1 + 2 + 3

    in_loop(use)


def test_who_has_most_waiting_gives_a_place_to_who_has_fewer() -> None:
    async def use() -> None:
        queue = filled(*"aaabb")
        out = queue.pushed_out("x")
        assert out is not None and (out.caller, out.seconds) == ("a", 2.0)
        assert queue.pushed_out("b") is None
        out = queue.pushed_out("x")
        assert out is not None and len(queue) == 3
        assert queue.pushed_out("x") is None or len(queue) == 2
        with pytest.raises(ValueError, match="deque"):
            queue.remove(out)

    in_loop(use)


def test_who_took_much_is_greedy_beside_who_took_little_until_it_is_forgotten() -> None:
    now = [0.0]
    shares = Shares(clock=lambda: now[0])
    shares.begin("a")
    assert not shares.greedy_beside(0.01, [])
    shares.end("a", 1.0)
    assert shares.recent("a") == pytest.approx(1.0)
    # Only who works or waits now is in the way.
    assert not shares.greedy_beside(0.01, [])
    assert shares.greedy_beside(0.01, ["a"])
    assert not shares.greedy_beside(0.5, ["a"])
    now[0] += 10 * MEMORY_SECONDS
    assert not shares.greedy_beside(0.01, ["a"])


def test_refusals_take_longer_the_more_of_them_there_were() -> None:
    tarpit = Tarpit()
    waits = [tarpit.refused("a", 0.0) for _ in range(500)]
    assert waits[0] == 0 and waits[1] < 0.02 and waits[-1] == LONGEST_SECONDS
    assert tarpit.refused("b", 0.0) == 0
    assert tarpit.refused("a", 60.0) == pytest.approx(0, abs=1e-6)


def test_no_more_than_so_many_of_one_caller_wait() -> None:
    async def use() -> None:
        tarpit = Tarpit()
        for _ in range(1000):
            tarpit.refused("a", asyncio.get_running_loop().time())
        holding = [asyncio.create_task(tarpit.hold("a")) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        async with asyncio.timeout(0.5):
            await tarpit.hold("a")
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        assert not tarpit._waiting

    in_loop(use)
