"""A server's tally in a process of its own: `python -m tests.faults.support.counting FILE`.

Counts a report after another until its stdin ends, then prints how many.
"""

import sys
import threading
from pathlib import Path

from common.ranking import Counts
from server.reports.report import Receipt, Report
from server.reports.tally import Tally


def main(path: Path) -> None:
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    with Tally(users=9, eligible=(9,), path=path) as tally:
        counted = 0
        while not over.is_set():
            shown = (Receipt(counted % 9, int(tally.now()), counted),)
            counts = Counts((1,), (0,), on_device=1)
            report = Report("a" * 64, "vicinal", str(counted), counts, None, shown)
            counted += tally.submit(report).result()
            if counted == 1:
                sys.stdout.write("counting\n")
                sys.stdout.flush()
    sys.stdout.write(f"{counted}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
