"""A device's process from its start to its first answer; benchmarks.device.install starts it.

    PYTHON process.py HOST:PORT RATINGS STORE STARTED

It runs where only the extra `device` is installed. STARTED is time.time() when it was started.
"""

import json
import sys
import time
from pathlib import Path


def main(server: str, ratings: str, store: str, started: float) -> None:
    """Answer for user 0, then for 20 users more, and say what it took as JSON."""
    running = time.time()
    # What importing takes is measured too.
    from client.link.connection import Connection  # noqa: PLC0415
    from client.session import Session  # noqa: PLC0415
    from client.stores.ratings import read_local_ratings  # noqa: PLC0415
    from client.stores.versions import VersionStore  # noqa: PLC0415
    from common.threads import limit_threads  # noqa: PLC0415

    limit_threads()
    imported = time.time()
    local = read_local_ratings(Path(ratings))
    with Connection(server) as connection:
        session = Session(connection, VersionStore(Path(store)), local, preset="paper")
        first = session.answer_one(0)
        answered = time.time()
        used = time.process_time()
        later = [session.answer_one(user) for user in range(1, 21)]
    found = {
        "interpreter": running - started,
        "imports": imported - running,
        "first_answer": answered - imported,
        "total": answered - started,
        "processor": used,
        "fetched": session.cold_bytes,
        "items": len(first.items),
        "later": sorted(one.waited + one.computed for one in later)[10],
        "rss": most_memory(),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def most_memory() -> int:
    """Bytes that this process had in memory at most. Of Linux alone: what getrusage() says counts
    the process that started this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
