"""Who is taken for hung: the stopped and the endless, not the slow."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.workers.hung import LEAST_SECONDS, Watch, patience, running_seconds

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


class Process:
    """What a Watch needs of a WorkerProcess, around a real process."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", code])
        self.pid = self.process.pid
        self.killed = False

    def kill(self) -> None:
        self.killed = True
        self.process.kill()


@pytest.fixture(params=["while True: pass", "import time; time.sleep(600)"])
def process(request: pytest.FixtureRequest) -> Iterator[Process]:
    started = Process(request.param)
    yield started
    started.process.kill()
    started.process.wait()


async def watched(process: Any, seconds: float, *, until: float) -> None:
    watch = Watch(process, seconds)
    async with asyncio.timeout(until):
        while not process.killed:
            await asyncio.sleep(0.01)
    watch.end()


def test_patience_grows_with_what_calls_took() -> None:
    assert patience(None) == 60
    assert patience(0.001) == LEAST_SECONDS == 5
    assert patience(2.0) == 20


def test_one_that_sleeps_or_never_ends_is_killed(process: Process) -> None:
    asyncio.run(watched(process, 0.1, until=60))
    assert process.process.wait(10) == -signal.SIGKILL


def test_one_that_waits_for_a_core_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    started = Process("import time; time.sleep(600)")
    try:
        # Runnable, and as good as no processor time at every look.
        monkeypatch.setattr("server.workers.hung.running_seconds", lambda _pid: 1.0)
        with pytest.raises(TimeoutError):
            asyncio.run(watched(started, 0.01, until=0.5))
        assert not started.killed
    finally:
        started.process.kill()
        started.process.wait()


def test_processor_time_is_that_of_processes_that_run() -> None:
    running = running_seconds(os.getpid())
    assert running is not None and running > 0
    assert running_seconds(2**22 + 1) is None
