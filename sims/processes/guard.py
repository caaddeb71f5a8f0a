"""A process that clears up after another one that is killed, which nobody can answer.

It waits for the end of a pipe that only the guarded process holds. What it then stops are all
processes of a mark (sims.processes.marked), which it does not bear itself.
"""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, final

from common.processes import module_command
from sims.processes.marked import stop_processes

GRACE_SECONDS: Final = 5
_DISMISSED: Final = b"dismissed\n"


@final
class Guard:
    """Started before what it guards; dismissed when that has been cleared up in order.

    mark    NAME=value in the environment of all that is to be stopped
    folder  of temporary files, deleted last
    """

    def __init__(self, mark: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            module_command("sims.processes.guard", mark, str(folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """There is nothing left to do."""
        self._process.communicate(_DISMISSED)


def _main(mark: str, folder: str) -> None:
    # What stops a whole group of processes, or all of a machine's, needs this one still.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == _DISMISSED:
        return
    stop_processes(mark, grace=GRACE_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
