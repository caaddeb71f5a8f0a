"""Work side by side in threads: results in order, and nobody works on after one has failed."""

import threading
from collections.abc import Callable

import pytest

from common.errors import InputError
from sims.processes.threads import in_threads

Told = Callable[[str, int, int], None]


def test_results_come_in_order_from_calls_that_run_at_once() -> None:
    both = threading.Barrier(2, timeout=60)
    told: list[str] = []

    def call(name: str) -> Callable[[Told], str]:
        def run(report: Told) -> str:
            both.wait()
            report(name, 1, 1)
            return name

        return run

    def progress(what: str, _done: int, _total: int) -> None:
        told.append(what)

    assert in_threads([call("one"), call("two")], progress) == ["one", "two"]
    assert sorted(told) == ["one", "two"]


def test_a_call_that_fails_ends_the_others_when_they_report() -> None:
    ended, begun = threading.Event(), threading.Event()

    def fails(_report: Told) -> None:
        begun.wait(timeout=60)
        raise InputError("not this one")

    def goes_on(report: Told) -> None:
        try:
            for done in range(1 << 30):
                report("train", done, 1 << 30)
                begun.set()
        finally:
            ended.set()

    with pytest.raises(InputError, match="not this one"):
        in_threads([fails, goes_on], lambda _what, _done, _total: None)
    assert ended.is_set()
