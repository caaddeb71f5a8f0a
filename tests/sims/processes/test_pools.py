"""Work shared out to processes: results in order, and no worker outlives its parent."""

import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from common.errors import InputError
from sims.processes.marked import marked_processes, stop_processes
from sims.processes.pools import in_processes
from tests.support.modules import ROOT

START = """
from pathlib import Path
from tests.sims.processes.test_pools import stay
from sims.processes.pools import in_processes
in_processes(stay, [(Path({folder!r}),)] * 3, processes=2)
"""


def stay(folder: Path) -> None:
    (folder / f"{os.getpid()}").touch()
    time.sleep(600)


def later_first(place: int) -> int:
    time.sleep(0.6 - 0.2 * place)
    return place


def set_greeting(text: str) -> None:
    os.environ["GREETING"] = text


def refuse(place: int) -> None:
    if place == 0:
        raise InputError("not this one")
    time.sleep(600)


def test_results_come_in_the_order_of_calls_and_are_told_as_they_come() -> None:
    arrivals: list[int] = []
    calls = [(place,) for place in range(3)]
    assert in_processes(later_first, calls, processes=3, arrived=arrivals.append) == [0, 1, 2]
    assert sorted(arrivals) == [0, 1, 2]


def test_each_worker_is_started_once() -> None:
    found = in_processes(
        os.getenv, [("GREETING",)] * 4, processes=2, start=set_greeting, arguments=("hello",)
    )
    assert found == ["hello"] * 4


def test_a_call_that_fails_ends_the_others() -> None:
    # The other would take longer than any test may.
    with pytest.raises(InputError, match="not this one"):
        in_processes(refuse, [(0,), (1,)], processes=2)


def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(BrokenProcessPool):
        in_processes(os._exit, [(3,)] * 20, processes=2)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="marks are read from /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    name, value = "VICINAL_TEST_MARK", str(uuid.uuid4())
    process = subprocess.Popen(
        [sys.executable, "-c", START.format(folder=str(tmp_path))],
        cwd=ROOT,
        env={**os.environ, name: value},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.iterdir())) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        workers = {int(path.name) for path in tmp_path.iterdir()}
        assert workers < {one.pid for one in marked_processes(f"{name}={value}")}
        process.send_signal(number)
        process.wait(timeout=60)
        while marked_processes(f"{name}={value}"):
            assert time.monotonic() < deadline, "a worker is left"
            time.sleep(0.05)
    finally:
        stop_processes(f"{name}={value}", grace=0)
