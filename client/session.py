"""The users of one device process, one after another: package, fine-tune, rank, report."""

import time
import uuid
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, final

from client.connection import Connection, VersionRefusedError
from client.device import answer
from client.local_ratings import LocalRatings
from client.version_store import VersionStore
from common.errors import InputError, VicinalError
from common.model_version import ModelVersion
from common.ranking import Counts
from common.wire.description import Description

# Sums over many users say less about each of them, and cost fewer calls.
USERS_PER_REPORT: Final = 25
# A server that refuses the version that it has just described is left alone after this often.
MAX_REFUSALS: Final = 3


@dataclass(frozen=True)
class Answered:
    """One user's request, seen from the device.

    waited    seconds from asking for the package until it was here and checked
    computed  seconds of fine-tuning and ranking
    received  bytes of the package
    """

    user: int
    counts: Counts
    waited: float
    computed: float
    received: int


@final
class Session:
    """A version at hand and users to answer for.

    cold_bytes  received for model versions so far; 0 when the store had them
    """

    def __init__(
        self, connection: Connection, store: VersionStore, local: LocalRatings, *, preset: str
    ) -> None:
        self._connection = connection
        self._store = store
        self._local = local
        self._preset = preset
        self.cold_bytes = 0
        self.description, self.version = self._open()

    def check(self, users: Sequence[int]) -> None:
        """Raises InputError for a user whom the server does not know."""
        count = self.description.user_count
        for user in users:
            if not 0 <= user < count:
                raise InputError(f"unknown user {user}: choose 0–{count - 1}")

    def answer(self, users: Sequence[int]) -> Generator[list[Answered], None, None]:
        """Answer for users in order; yields those of each report once the server has it.

        Users whose report is refused because the server has moved on to another version are
        answered again with that. Raises InputError for an unknown user, VicinalError.
        """
        self.check(users)
        waiting, refusals = deque(users), 0
        while waiting:
            batch = [waiting[place] for place in range(min(USERS_PER_REPORT, len(waiting)))]
            try:
                answered = [self.answer_one(user) for user in batch]
                self._report(answered)
            except VersionRefusedError:
                refusals += 1
                if refusals == MAX_REFUSALS:
                    raise
                self.description, self.version = self._open()
                continue
            refusals = 0
            for _ in batch:
                waiting.popleft()
            yield answered

    def answer_one(self, user: int) -> Answered:
        """Answer for one user without reporting it."""
        start = time.perf_counter()
        package = self._connection.package(self.description, user, self._preset)
        arrived = time.perf_counter()
        _, counts = answer(
            self.version,
            package.neighborhood,
            self.description.preset(self._preset),
            rated=self._local.train.items_of(user),
            held_out=self._local.held_out_of(user),
            watched=self.description.watched,
            list_length=self.description.list_length,
        )
        done = time.perf_counter()
        return Answered(user, counts, arrived - start, done - arrived, package.received)

    def _report(self, answered: list[Answered]) -> None:
        total = Counts.none(len(self.description.watched))
        for one in answered:
            total += one.counts
        # The key is random, so that it says nothing of the users, and one for all retries.
        self._connection.report(self.description, self._preset, uuid.uuid4().hex, total)

    def _open(self) -> tuple[Description, ModelVersion]:
        description = self._connection.describe()
        description.preset(self._preset)
        if description.ratings_digest != self._local.train.digest():
            raise InputError(
                "the server's training ratings are not those of this device: use the file that "
                "`vicinal serve --device-ratings` wrote, or the server's --dataset and --seed"
            )
        version = self._store.load(description.version)
        if version is not None:
            if version.manifest != description.manifest:
                raise VicinalError(
                    f"server {self._connection.address}: the manifest it describes is not the "
                    "one inside the model version"
                )
            return description, version
        fetched = self._connection.fetch_model(description)
        self.cold_bytes += fetched.received
        self._store.save(description.version, fetched.data)
        return description, fetched.version
