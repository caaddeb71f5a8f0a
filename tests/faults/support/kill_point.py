"""A device that kills itself: `python kill_point.py SERVER RATINGS FOLDER POINT`.

It opens a session on FOLDER/store, sends what is owed and answers two users, with last packages
kept. Before its POINT-th change of a file below the store (a file opened for writing, renamed or
deleted) it is killed with SIGKILL; with 0 never. FOLDER/ledger tells what it did.
"""

import os
import signal
import sys
from pathlib import Path
from typing import cast

from client.disclosure import Disclosure
from client.link.connection import Connection
from client.session import Session
from client.stores.packages import PackageStore
from client.stores.ratings import read_local_ratings
from client.stores.reports import PendingReports
from client.stores.versions import VersionStore
from common.threads import limit_threads
from tests.faults.support.ledger import Ledger, RecordedReports, recorded_sending

USERS = (3, 4)
PRESET = "vicinal"


def kill_before(point: int, store: Path) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        changes = event in ("os.rename", "os.remove")
        if event == "open" and isinstance(arguments[2], int):
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if changes and str(arguments[0]).startswith(str(store)):
            seen += 1
            if seen == point:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def play(address: str, ratings: Path, folder: Path) -> None:
    ledger, store = Ledger(folder / "ledger"), folder / "store"
    with Connection(address, patience=60) as connection:
        recorded_sending(connection, ledger)
        session = Session(
            connection,
            VersionStore(store),
            read_local_ratings(ratings),
            preset=PRESET,
            packages=PackageStore(store / "packages", address),
            disclosure=Disclosure(least_users=1),
        )
        session._pending = cast(PendingReports, RecordedReports(session._pending, ledger))
        session.send_pending()
        for batch in session.answer(USERS):
            assert all(one.reported for one in batch)


def main(address: str, ratings: str, folder: str, point: str) -> None:
    limit_threads()
    kill_before(int(point), Path(folder, "store"))
    play(address, Path(ratings), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
