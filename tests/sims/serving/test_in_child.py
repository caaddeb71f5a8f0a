"""Work in a forked child: its end is the parent's end, and the parent's end is its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Says the child's id, and then what in_child does with the body. Where this runs in the background,
# Ctrl-C is ignored, and a process inherits that. It is undone in the process itself and not by a
# preexec_fn: that forks, and gRPC's threads of other tests let such a fork die before it is Python.
SCRIPT = """
import os, signal, sys, time, typer
signal.signal(signal.SIGINT, signal.default_int_handler)
{before}
from common.errors import InputError, VicinalError
from sims.serving.in_child import in_child

def work():
    print(os.getpid(), flush=True)
    {body}

try:
    in_child(work)
except typer.Exit as error:
    print("exit", error.exit_code)
except VicinalError as error:
    print("error", error)
except KeyboardInterrupt:
    print("interrupted")
else:
    print("done")
"""


# Ctrl-C right after the fork, for the process in which `whom` holds; the parent says at its end
# whether it has waited for the child.
EARLY = """
import atexit

def forked(fork=os.fork, parent=os.getpid()):
    child = fork()
    atexit.register(lambda: os.getpid() == parent and print(waited()))
    if {whom}:
        os.kill(os.getpid(), signal.SIGINT)
    return child

def waited():
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return "waited"
    return "a child is left"

os.fork = forked
"""


def start(body: str, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(body=body, before=before)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def child_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def gone(pid: int) -> bool:
    """Ended; a zombie, whose parent has not asked, has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", "done\n"),
        ("sys.exit(2)", "exit 2\n"),
        ("os.kill(os.getpid(), 9)", "error the process that prepared what is served was killed"),
    ],
)
def test_its_end_is_told(body: str, said: str) -> None:
    process = start(body)
    assert child_of(process) != process.pid
    # Not communicate(), which does not see what readline has buffered.
    assert process.stdout is not None
    out = process.stdout.read()
    process.wait(60)
    assert out.startswith(said) and out.count("\n") == 1


def test_an_interrupt_ends_both_and_is_told_once() -> None:
    process = start("time.sleep(600)")
    child = child_of(process)
    # As a terminal does: both get it.
    for pid in (child, process.pid):
        os.kill(pid, signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (out, errors) == ("interrupted\n", "")
    assert gone(child)


def test_an_interrupt_before_the_child_is_ready_is_not_for_the_child() -> None:
    process = start("pass", EARLY.format(whom="child == 0"))
    out, errors = process.communicate(timeout=60)
    said, *rest = out.splitlines()
    assert (said.isdecimal(), rest, errors) == (True, ["done", "waited"], "")


def test_an_interrupt_before_the_parent_waits_ends_the_child_first() -> None:
    process = start("time.sleep(600)", EARLY.format(whom="child != 0"))
    out, errors = process.communicate(timeout=60)
    # The child may have said its id.
    assert (out.splitlines()[-2:], errors) == (["interrupted", "waited"], "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_parent(number: signal.Signals) -> None:
    process = start("time.sleep(600)")
    child = child_of(process)
    process.send_signal(number)
    process.wait(60)
    deadline = time.monotonic() + 60
    while not gone(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.communicate()
