"""One device that asks without end and writes a ledger: `python device_process.py JSON`.

A line on stdin ends it after the request under way; the end of stdin ends it at once.
"""

import json
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, cast

from client.disclosure import Disclosure
from client.link.connection import Connection, VersionRefusedError
from client.session import Session
from client.stores.packages import PackageStore
from client.stores.ratings import LocalRatings, read_local_ratings
from client.stores.reports import PendingReports, reports_folder
from client.stores.versions import VersionStore
from common.errors import VicinalError
from common.threads import limit_threads
from tests.faults.support.ledger import Ledger, RecordedReports, recorded_sending

# phone      answers from its last packages when the server does not answer
# patient    waits for the server instead
# slim       holds no model version
# newcomer   has an empty store every time
# asker      wants the server's own answers
Kind = Literal["phone", "patient", "slim", "newcomer", "asker"]
KINDS: Final[tuple[Kind, ...]] = ("phone", "patient", "slim", "newcomer", "asker")
PRESET: Final = "vicinal"
# Of a phone that has last packages to answer from, in seconds.
PHONE_PATIENCE: Final = 2.0
REQUESTS_PER_OPEN: Final = 12


@dataclass(frozen=True)
class Device:
    """What to play.

    users     of whom it asks for a few at a time
    deadline  seconds for which it waits for an answer
    pause     seconds between requests, of a user who looks at the answer
    """

    name: str
    kind: Kind
    address: str
    ratings: str
    folder: str
    users: int
    seed: int
    deadline: float
    pause: float

    @property
    def ledger(self) -> Path:
        return Path(self.folder) / f"{self.name}.ledger"

    @property
    def store(self) -> Path:
        return Path(self.folder) / self.name

    def argument(self) -> str:
        return json.dumps(asdict(self))


class Player:
    """A device's requests, one after another, until `over` is set."""

    def __init__(self, device: Device, local: LocalRatings) -> None:
        self._device = device
        self._local = local
        self._ledger = Ledger(device.ledger)
        self._rng = random.Random(f"{device.seed} {os.getpid()}")
        self.over = threading.Event()

    def play(self) -> None:
        while not self.over.is_set():
            with self._connected() as connection:
                try:
                    if self._device.kind == "asker":
                        self._ask(connection)
                    else:
                        self._answer(self._opened(connection))
                except VicinalError:
                    # It is in the ledger. Whoever finds no server does not ask without pause.
                    self.over.wait(1.0)
        with self._connected() as connection:
            reports = PendingReports(reports_folder(self._device.store, connection.address))
            for report in reports if self._device.kind != "asker" else ():
                try:
                    connection.send_report(report)
                except VicinalError:
                    continue
                reports.drop(report)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        patience = PHONE_PATIENCE if self._device.kind == "phone" else self._device.deadline
        with Connection(self._device.address, patience=patience) as connection:
            recorded_sending(connection, self._ledger)
            yield connection

    def _opened(self, connection: Connection) -> Session:
        device = self._device
        if device.kind == "newcomer":
            # Its reports stay: they are owed.
            for path in device.store.glob("*.safetensors"):
                path.unlink()
            shutil.rmtree(device.store / "packages", ignore_errors=True)
        with self._request("open", []):
            packages = PackageStore(device.store / "packages", device.address)
            session = Session(
                connection,
                VersionStore(device.store),
                self._local,
                preset=PRESET,
                packages=packages if device.kind == "phone" else None,
                slim=device.kind == "slim",
                # Of few users each, so that much is under way.
                disclosure=Disclosure(least_users=1),
            )
            recorded = RecordedReports(session._pending, self._ledger)
            session._pending = cast(PendingReports, recorded)
            session.send_pending()
            self._ledger.write("opened", bytes=session.cold_bytes)
        return session

    def _answer(self, session: Session) -> None:
        requests = 1 if self._device.kind == "newcomer" else REQUESTS_PER_OPEN
        for _ in range(requests):
            users = self._rng.sample(range(self._device.users), self._rng.randint(1, 3))
            with self._request("ask", users):
                batches = session.answer(users)
                found = [one for batch in batches for one in batch]
                entries = [
                    {
                        "user": one.user,
                        "version": one.version,
                        "items": one.items,
                        "stale": one.counts.stale,
                        "reported": one.reported,
                    }
                    for one in found
                ]
                self._ledger.write("answered", entries=entries)
            if self.over.wait(self._device.pause):
                return

    def _ask(self, connection: Connection) -> None:
        with self._request("open", []):
            description = connection.describe()
            self._ledger.write("opened", bytes=0)
        for _ in range(REQUESTS_PER_OPEN):
            user = self._rng.randrange(description.user_count)
            with self._request("ask", [user]):
                try:
                    items = connection.recommend(description, user, PRESET)
                except VersionRefusedError:
                    description = connection.describe()
                    items = connection.recommend(description, user, PRESET)
                entry = {"user": user, "version": description.version, "items": items, "stale": 0}
                self._ledger.write("answered", entries=[entry])
            if self.over.wait(self._device.pause):
                return

    @contextmanager
    def _request(self, what: str, users: list[int]) -> Iterator[None]:
        begun = time.monotonic()
        self._ledger.write(what, users=users, at=begun)
        try:
            yield
        except BaseException as error:
            now = time.monotonic()
            kind = type(error).__name__
            self._ledger.write(
                "failed", users=users, at=begun, seconds=now - begun, error=f"{kind}: {error}"
            )
            raise
        self._ledger.write("ended", users=users, at=begun, seconds=time.monotonic() - begun)


def listen(over: threading.Event) -> None:
    if not sys.stdin.readline():
        os._exit(1)
    over.set()


def main() -> None:
    limit_threads()
    device = Device(**json.loads(sys.argv[1]))
    player = Player(device, read_local_ratings(Path(device.ratings)))
    threading.Thread(target=listen, args=(player.over,), daemon=True).start()
    player.play()


if __name__ == "__main__":
    main()
