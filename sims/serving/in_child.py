"""Work whose memory is to be given back: done in a child process that then ends."""

import os
import signal
import sys
from collections.abc import Callable

import typer

from common.errors import VicinalError
from common.processes import end_with


def in_child(work: Callable[[], None]) -> None:
    """Do `work` in a forked process, and wait for it. For a process without threads.

    What it raises ends the child as it would have ended this process, with its own line on
    stderr; here it is typer.Exit with the same code. Raises VicinalError when it was killed. The
    child ends when this process does, however that ends.
    """
    ended, alive = os.pipe()
    # Held back until each of the two is ready for them: the child would answer a Ctrl-C as if it
    # were the parent, and the parent would leave without the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    child = os.fork()
    if child == 0:
        os.close(alive)
        _follow(ended)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        work()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    try:
        os.close(ended)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(alive)
    if code < 0:
        name = signal.Signals(-code).name
        raise VicinalError(f"the process that prepared what is served was killed by {name}")
    if code:
        raise typer.Exit(code)


def _follow(ended: int) -> None:
    """Leave Ctrl-C to the parent, obey its SIGTERM, and end when it has ended."""

    def leave(_number: int, _frame: object) -> None:
        sys.exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    end_with(ended)
