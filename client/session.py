"""The users of one device process, one after another: package, fine-tune, rank, report.

A server that cannot be reached is no reason to show nothing: the last package of a user gives
an answer too, marked as stale. And a device that is too slow may ask for the server's answer.
"""

import logging
import time
import uuid
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import compress
from typing import Final, final

from client.answers import AnswerRecord, DeviceRecommender
from client.device import Pace
from client.disclosure import Disclosure, batch_size
from client.link.connection import (
    BudgetSpentError,
    Connection,
    NoAnswerError,
    ServerFailedError,
    VersionRefusedError,
    report_of,
)
from client.release import check_release
from client.stores.books import BookStore, checked_book
from client.stores.packages import PackageStore
from client.stores.publications import OlderVersionError, Publications
from client.stores.ratings import LocalRatings
from client.stores.reports import PendingReports, reports_folder
from client.stores.versions import VersionStore
from common.errors import InputError, VicinalError
from common.models import model_named
from common.ranking import Counts
from common.versions.encodings import Encoding
from common.versions.version import ModelVersion
from common.vicinal.book import ItemBook, Release
from common.vicinal.slim import check_slim
from common.wire import offload_pb2 as wire
from common.wire.description import Description

# A server that refuses the version that it has just described is left alone after this often.
MAX_REFUSALS: Final = 3
# A server that did not answer is left alone for so long, and users are answered without it.
AWAY_SECONDS: Final = 30.0
# Servers that are one service are as far apart at most when they begin with a version.
BEHIND_SECONDS: Final = 0.7

_log = logging.getLogger(__name__)


@final
class Session:
    """A version at hand and users to answer for.

    packages     where last packages are kept; None: a server that does not answer is an error
    slower_than  seconds of fine-tuning above which the server is asked for its answer
    slim         no version is fetched: packages bring the part of the model that they touch
    release      rows or book: what is taken from a server; None takes what it gives
    books        where its book is kept, if anywhere
    disclosure   what is told of the users (client.disclosure)
    version      None on a slim device
    book         of the version, from which users are answered without a call; None: packages are
                 asked for
    cold_bytes   received for model versions so far; 0 when the store had them
    """

    def __init__(
        self,
        connection: Connection,
        store: VersionStore,
        local: LocalRatings,
        *,
        preset: str,
        encoding: Encoding = "float32",
        packages: PackageStore | None = None,
        slower_than: float | None = None,
        slim: bool = False,
        disclosure: Disclosure | None = None,
        release: Release | None = None,
        books: BookStore | None = None,
    ) -> None:
        """Raises InputError for a model or preset that a slim device cannot use, and for a server
        that gives something else than the release that is wanted.
        """
        self._connection = connection
        self._store = store
        self._recommender = DeviceRecommender(connection, store, local, preset, packages)
        self._pending = PendingReports(reports_folder(store.folder, connection.address))
        self._published = Publications(store.folder)
        self._preset = preset
        self._slim = slim
        self._disclosure = disclosure or Disclosure()
        self._encoding = encoding
        self._may_be_stale = packages is not None
        self._release, self._books = release, books
        self._pace = Pace(slower_than)
        self._away: NoAnswerError | None = None
        self._ask_again = self._recommend_again = 0.0
        self.cold_bytes = 0
        self.book: ItemBook | None = None
        self.version: ModelVersion | None
        try:
            self.description, self.version = self._open()
        except NoAnswerError as error:
            self.description, self.version = self._kept(error)
            self._left(error)

    def check(self, users: Sequence[int]) -> None:
        """Raises InputError for what is no user, or none whom the server knows.

        Of users who came after the version that is served the server is asked.
        """
        last = self.description.user_count - 1
        if self._away is None and max(users, default=0) > last:
            self._open_after_refusal()
        for user in users:
            # A book is for everybody, whether or not the server knows them.
            unknown_here = user > last and self._away is not None and self.book is None
            if user < 0 or unknown_here:
                raise InputError(f"unknown user {user}: choose 0–{last}")

    def answer(self, users: Sequence[int]) -> Generator[list[AnswerRecord], None, None]:
        """Answer for users in order; yields those of each report once the server has it.

        Users whose report is refused because the server has moved on to another version are
        answered again with that. Raises InputError for an unknown user, VicinalError.
        """
        self.check(users)
        waiting, refusals = deque(users), 0
        while waiting:
            batch = [waiting[place] for place in range(batch_size(len(waiting)))]
            try:
                answered = self._report([self.answer_one(user) for user in batch])
            except VersionRefusedError:
                refusals += 1
                if refusals == MAX_REFUSALS:
                    raise
                self._open_after_refusal()
                continue
            refusals = 0
            for _ in batch:
                waiting.popleft()
            yield answered

    def answer_one(self, user: int) -> AnswerRecord:
        """Answer for one user without reporting it. Raises as answer() does."""
        if self.book is not None:
            assert self.version is not None
            return self._recommender.from_book(self.description, self.version, self.book, user)
        if self._away is not None and time.monotonic() < self._ask_again:
            return self._recommender.stale(self.description, user, self._away)
        try:
            if self._away is not None:
                self._open_again()
                self._away = None
            return self._answer_fresh(user)
        except NoAnswerError as error:
            self._left(error)
            return self._recommender.stale(self.description, user, error)

    def _answer_fresh(self, user: int) -> AnswerRecord:
        """By the server when the device is too slow and the server has time, here otherwise.

        A server that shows no more neighbors today is asked for its answer, too.
        """
        if self._pace.too_slow() and time.monotonic() >= self._recommend_again:
            try:
                return self._recommender.by_server(self.description, user)
            except NoAnswerError as error:
                if not error.seconds:
                    raise
                self._recommend_again = time.monotonic() + error.seconds
        try:
            answered = self._recommender.here(self.description, self.version, user)
        except BudgetSpentError:
            return self._recommender.by_server(self.description, user, insist=True)
        self._pace.note(answered.computed)
        return answered

    def _report(self, answered: list[AnswerRecord]) -> list[AnswerRecord]:
        """Report the counts of the current version, and mark whose the server has.

        Sums of one version say nothing of another: answers of an older one stay here.
        """
        watched = len(self.description.watched)
        if self.book is not None:
            answered = self._receipted(answered)
        total = Counts.none(watched)
        mine: list[bool] = []
        seen: set[int] = set()
        for one in answered:
            current = one.comparable and one.version == self.description.version
            # A report has one answer of a user, and a package one stale answer.
            mine.append(current and bool(one.receipt) and one.user not in seen)
            seen.update([one.user] if mine[-1] else ())
        for one in compress(answered, mine):
            total += one.counts
        if not total.answered:
            return answered
        sent = list(compress(answered, mine))
        if why := self._disclosure.refusal(len(sent), watched):
            return [
                replace(one, untold=why) if known else one
                for one, known in zip(answered, mine, strict=True)
            ]
        # The key is random, so that it says nothing of the users, and one for all retries.
        report = report_of(
            self.description,
            self._preset,
            uuid.uuid4().hex,
            total,
            [one.receipt for one in sent if not one.counts.stale],
            [one.receipt for one in sent if one.counts.stale],
        )
        if self._disclosure.randomizes(len(sent)):
            # In the order of the receipts.
            told = sorted(sent, key=lambda one: one.counts.stale)
            report.counts.Clear()
            report.randomized.CopyFrom(self._disclosure.randomized([one.counts for one in told]))
        for one in sent:
            if one.counts.stale:
                self._recommender.spent(one.user)
        self._keep(report)
        if self._away is not None:
            return answered
        try:
            self._deliver(report)
        except ServerFailedError:
            # As when its disk is full: the report is on ours, and the answers are here.
            return answered
        except NoAnswerError as error:
            if not self._may_be_stale:
                raise
            self._left(error)
            return answered
        return [replace(one, reported=known) for one, known in zip(answered, mine, strict=True)]

    def _receipted(self, answered: list[AnswerRecord]) -> list[AnswerRecord]:
        """Answers from a book with receipts; none without a report, as asking would tell whose."""
        users = list(dict.fromkeys(one.user for one in answered))
        if why := self._disclosure.refusal(len(users), len(self.description.watched)):
            return [replace(one, untold=why) for one in answered]
        try:
            if self._away is not None:
                if time.monotonic() < self._ask_again:
                    return answered
                self._open_again()
                self._away = None
            if any(one.version != self.description.version for one in answered):
                return answered
            given = self._connection.receipts(self.description, users, self._preset)
        except NoAnswerError as error:
            if not self._may_be_stale:
                raise
            self._left(error)
            return answered
        except InputError as error:  # as of users whom the server does not know yet
            return [replace(one, untold=str(error)) for one in answered]
        receipts = dict(zip(users, given, strict=True))
        return [replace(one, receipt=receipts.pop(one.user, b"")) for one in answered]

    def _keep(self, report: wire.ReportRequest) -> None:
        """On the disk, until the server has it; a full disk withholds no answer."""
        try:
            self._pending.keep(report)
        except VicinalError as error:
            _log.warning("%s; this report is not kept", error)

    def _deliver(self, report: wire.ReportRequest) -> None:
        """Raises as send_report(); what the server will never take is owed no more."""
        try:
            self._connection.send_report(report)
        except (InputError, VersionRefusedError):
            self._pending.drop(report)
            raise
        self._pending.drop(report)

    def send_pending(self) -> int:
        """Send what earlier runs could not deliver; how many the server has taken.

        A report that cannot be sent now, or is of a version that is not served now, is kept.
        """
        taken = 0
        for report in self._pending if self._away is None else ():
            try:
                self._connection.send_report(report)
                taken += 1
            except InputError:
                pass
            except ServerFailedError:
                continue
            except NoAnswerError:
                break
            except VicinalError:
                continue
            self._pending.drop(report)
        return taken

    def _open(self) -> tuple[Description, ModelVersion | None]:
        """A version that was replaced between describing and fetching is described again."""
        for _ in range(MAX_REFUSALS - 1):
            try:
                return self._open_described()
            except VersionRefusedError:
                continue
            except OlderVersionError:
                # One of several servers may be a moment behind another.
                time.sleep(BEHIND_SECONDS)
        return self._open_described()

    def _open_described(self) -> tuple[Description, ModelVersion | None]:
        held = () if self._slim else self._store.digests()
        description = self._connection.describe(self._encoding, held)
        settings = description.preset(self._preset)
        self._check(description)
        self._published.check(self._connection.address, description.publication)
        if self._slim:
            check_slim(model_named(description.manifest.model), settings)
            return description, None
        form = description.form(self._encoding)
        self._connection.require_version(description, self._encoding)
        self._store.release()
        version = self._store.load(form, description.version)
        if version is None:
            fetched = self._connection.fetch_model(description, self._encoding, self._store.read)
            self.cold_bytes += fetched.received
            self._store.save(form.digest, fetched.data)
            version = fetched.version
        elif version.manifest != description.manifest:
            raise VicinalError(
                f"server {self._connection.address}: the manifest it describes is not the "
                "one inside the model version"
            )
        self.book = self._book_of(description)
        return description, version

    def _book_of(self, description: Description) -> ItemBook | None:
        """The version's book, from the store or the server; None where it has none."""
        if description.book is None:
            return None
        data = None if self._books is None else self._books.data(description.book.digest)
        if data is None:
            fetched = self._connection.fetch_book(description)
            self.cold_bytes += fetched.received
            data = fetched.data
        try:
            book = checked_book(description, data)
        except InputError as error:
            raise VicinalError(f"server {self._connection.address}: {error}") from None
        if self._books is not None:
            self._books.keep(description, data)
        return book

    def _kept(self, error: NoAnswerError) -> tuple[Description, ModelVersion]:
        """What there is without the server: its last book, or else last packages.

        Raises `error` without either, InputError as check_release().
        """
        kept = None if self._books is None or not self._may_be_stale else self._books.load()
        if kept is None or self._preset not in kept.description.presets:
            if self._release == "book":
                raise error
            return self._recommender.latest(error)
        self._check(kept.description)
        version = self._recommender.stored(kept.description)
        if version is None:
            raise error
        self.book = kept.book
        return kept.description, version

    def _check(self, description: Description) -> None:
        server = f"server {self._connection.address}"
        check_release(description, self._release, slim=self._slim, server=server)

    def _open_again(self) -> None:
        description, version = self._open()
        if description.watched != self.description.watched:
            raise VicinalError(
                f"server {self._connection.address}: it watches other items than before, and "
                "counts of both cannot be added: run the devices again"
            )
        self.description, self.version = description, version

    def _open_after_refusal(self) -> None:
        try:
            self._open_again()
        except NoAnswerError as error:
            if not self._may_be_stale:
                raise
            self._left(error)

    def _left(self, error: NoAnswerError) -> None:
        """Ask no more for a while: for as long as the server said, if it did."""
        self._away = error
        self._ask_again = time.monotonic() + (error.seconds or AWAY_SECONDS)
