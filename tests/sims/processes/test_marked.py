"""Processes that detach themselves are found and stopped, and no others."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sims.processes.marked import (
    interruptible,
    interrupts_put_off,
    marked_processes,
    stop_processes,
    uninterrupted,
)
from tests.support.modules import ROOT

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="marks are read from /proc"
)

# A child that leaves its parent's session and outlives it, without the mark in its environment
# when told so; its grandchild ignores SIGTERM.
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
DAEMON = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], env={{}}, start_new_session=True)
time.sleep(60)
"""
LAUNCHER = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {DAEMON!r}], start_new_session=True)
"""


@pytest.fixture
def mark() -> Iterator[str]:
    name = f"VICINAL_TEST_MARK={uuid.uuid4()}"
    yield name
    stop_processes(name, grace=0)


def start(code: str, mark: str) -> subprocess.Popen[bytes]:
    name, _, value = mark.partition("=")
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, name: value})


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_a_detached_tree_is_stopped_and_a_bystander_is_not(mark: str) -> None:
    bystander = start("import time; time.sleep(600)", mark + "-other")
    try:
        assert start(LAUNCHER, mark).wait(timeout=60) == 0
        # The daemon carries the mark, its child is known by its parent alone.
        assert until(lambda: len(marked_processes(mark)) == 2)
        time.sleep(0.3)  # the stubborn one needs a moment to become so
        pids = {process.pid for process in marked_processes(mark)}
        stop_processes(mark, grace=0.5)
        assert marked_processes(mark) == set()
        assert not any(Path(f"/proc/{pid}/cmdline").exists() and alive(pid) for pid in pids)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("dismissed", [False, True])
def test_a_guard_clears_up_after_one_who_was_killed(
    dismissed: bool, mark: str, tmp_path: Path
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    ending = "guard.dismiss()" if dismissed else "os.kill(os.getpid(), 9)"
    code = f"""
import os, pathlib, subprocess, sys
from sims.processes.guard import Guard
guard = Guard({mark!r}, pathlib.Path({str(folder)!r}))
name, _, value = {mark!r}.partition("=")
environment = {{**os.environ, name: value}}
command = [sys.executable, "-c", "import time; time.sleep(60)"]
quiet = subprocess.DEVNULL
subprocess.Popen(command, env=environment, start_new_session=True, stdout=quiet, stderr=quiet)
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == (0 if dismissed else -signal.SIGKILL), done.stderr
    if dismissed:
        assert len(marked_processes(mark)) == 1 and folder.is_dir()
    else:
        assert until(lambda: marked_processes(mark) == set() and not folder.exists())


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def test_a_root_counts_without_a_mark() -> None:
    process = start("import time; time.sleep(60)", "UNRELATED=1")
    assert {p.pid for p in marked_processes("NO_SUCH_MARK=1", [process.pid])} == {process.pid}
    stop_processes("NO_SUCH_MARK=1", [process.pid], grace=5)
    assert process.wait(timeout=5) == -signal.SIGTERM


def test_this_process_is_never_among_them() -> None:
    assert os.getpid() not in {p.pid for p in marked_processes("NO_SUCH_MARK=1", [os.getpid()])}


def test_sigterm_ends_a_block_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_clean_up_is_not_broken_off() -> None:
    with uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)


def test_what_would_break_off_a_block_is_answered_after_it() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_put_off():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")
        with interrupts_put_off():
            done.append("and nothing afterwards")
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["all of it", "and nothing afterwards"]
