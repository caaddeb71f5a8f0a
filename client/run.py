"""Many users' devices run by one process or by several, and their sums.

With several, each child process has its own connection and shares the folder of versions. A
child ends when its parent does, however that ends.
"""

import logging
import multiprocessing
import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import final

from client.answers import AnswerRecord
from client.budget import Budget
from client.disclosure import Disclosure
from client.link.channel import Access
from client.link.connection import Connection
from client.session import Session
from client.stores.books import BookStore
from client.stores.packages import PackageStore
from client.stores.ratings import ITEMS_FILE, LocalRatings, read_local_ratings
from client.stores.versions import VersionStore
from common.errors import InputError, VicinalError
from common.files import make_folder
from common.ids import UNNAMED, IdMap, Names, ids_digest, read_map
from common.processes import Pinned, end_with
from common.ranking import Counts
from common.threads import limit_threads
from common.versions.encodings import Encoding
from common.vicinal.book import Release
from common.wire.description import Description

Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceRun:
    """Whom to answer for, and how.

    server       HOST:PORT, or several with commas, which are one service
    ratings      device file, or folder of them (client.stores.ratings)
    store        folder of model versions and of last packages
    stale        answer from last packages while the server does not answer
    slower_than  seconds of fine-tuning above which the server is asked for its answer
    access       encryption, certificate and token
    slim         hold no model version, nor packages: each brings the part of a model it touches
    encoding     in which versions are fetched
    disclosure   what is told of the users (client.disclosure)
    store_bytes  that all versions in the store may take; None sets no limit
    budget       memory and time of one answer
    names        a map of ids; None takes the one beside the device files, where one is
    release      rows or book: what is taken from the server; None takes what it gives
    """

    server: str
    ratings: Path
    store: Path
    preset: str
    users: tuple[int, ...]
    stale: bool = True
    slower_than: float | None = None
    access: Access = field(default_factory=Access)
    slim: bool = False
    encoding: Encoding = "float32"
    store_bytes: int | None = None
    disclosure: Disclosure = field(default_factory=Disclosure)
    budget: Budget = field(default_factory=Budget)
    names: IdMap | None = None
    release: Release | None = None


@final
@dataclass(frozen=True)
class UsedBook:
    """What a run's book is: how many items it lists, and what it gives away (BookForm)."""

    listed: int
    size: int
    mu: float
    mu_life: float


@dataclass(frozen=True)
class RunResult:
    """The answers of a run and their sum.

    cold_bytes    received for the model version; 0 when the store had it
    late_reports  of earlier runs, which could not deliver them, that the server has now
    experiment    what the server does not serve as it is, in its words
    names         what the items of the version are called
    users         what the users are called, by index
    book          that users were answered from, and what is said of it; None: from packages
    """

    version: str
    answered: tuple[AnswerRecord, ...]
    counts: Counts
    cold_bytes: int
    late_reports: int = 0
    experiment: str = ""
    names: Names = UNNAMED
    users: Mapping[int, str] = field(default_factory=dict)
    book: UsedBook | None = None


def answer_users(
    run: DeviceRun, *, processes: int = 1, progress: Progress | None = None
) -> RunResult:
    """Answer for all users of a run; `progress` is called with (users done, users).

    Raises InputError, VicinalError; no process is left behind, whatever happens.
    """
    if not run.ratings.exists():
        raise InputError(
            f"{run.ratings}: cannot be read, nothing is there: "
            "`vicinal serve --device-ratings` writes device files"
        )
    # So that no process has too few users for a report.
    processes = min(processes, max(1, len(run.users) // run.disclosure.least_users))
    local = read_local_ratings(run.ratings, run.users)
    with Connection(run.server, access=run.access, budget=run.budget) as connection:
        # A device that can write nothing can answer all the same.
        with suppress(OSError):
            make_folder(run.store)
        # Before any child starts: what is wrong is said once, and the version fetched once.
        session = _session(run, connection, local)
        late_reports = session.send_pending()
        session.check(run.users)
        names = _names(run, session.description)
        version, cold_bytes = session.description.version, session.cold_bytes
        watched = len(session.description.watched)
        if processes == 1:
            batches = session.answer(run.users)
            answered = _collect(batches, len(run.users), progress)
            cold_bytes = session.cold_bytes
    if processes > 1:
        answered = _collect(_answer_in_children(run, processes), len(run.users), progress)
    counts = Counts.none(watched)
    for one in answered:
        counts += one.counts
    experiment = session.description.experiment
    users = {user: local.named(user) for user in run.users}
    return RunResult(
        version,
        tuple(answered),
        counts,
        cold_bytes,
        late_reports,
        experiment,
        names,
        users,
        _used(session),
    )


def _used(session: Session) -> UsedBook | None:
    book, form = session.book, session.description.book
    if book is None or form is None:
        return None
    return UsedBook(len(book.items), form.size, form.mu, form.mu_life)


def _names(run: DeviceRun, description: Description) -> Names:
    """Of the items that a server describes. Raises InputError for a map of others."""
    found, beside = run.names, run.ratings / ITEMS_FILE
    # A server of before does not say what its indices are: what was found is left alone.
    items = description.manifest.items
    if found is None and description.item_ids and run.ratings.is_dir() and beside.is_file():
        found = read_map(beside).first(items)
        if len(found.items.ids or ()) < items:
            _log.warning("%s: items have come since it was written: they have no names", beside)
            return UNNAMED
    if found is None:
        return UNNAMED
    found = found.first(items)
    found.require(description.item_ids)
    if found.users is not None and description.user_ids != ids_digest(
        found.users, description.user_count
    ):
        raise InputError(f"{found.path}: is a map of other users than the server's")
    return found.items


def _session(run: DeviceRun, connection: Connection, local: LocalRatings) -> Session:
    may_be_stale = run.stale and not run.slim
    return Session(
        connection,
        VersionStore(run.store, max_bytes=run.store_bytes),
        local,
        preset=run.preset,
        encoding=run.encoding,
        packages=PackageStore(run.store / "packages", run.server) if may_be_stale else None,
        slower_than=run.slower_than,
        slim=run.slim,
        disclosure=run.disclosure,
        release=run.release,
        books=BookStore(run.store / "books", run.server),
    )


def _collect(
    batches: Generator[list[AnswerRecord], None, None], total: int, progress: Progress | None
) -> list[AnswerRecord]:
    answered: list[AnswerRecord] = []
    # Closed at once, also after an interrupt, so that no child outlives the call.
    with closing(batches):
        for batch in batches:
            answered += batch
            if progress is not None:
                progress(len(answered), total)
    return sorted(answered, key=lambda one: one.user)


def _answer_in_children(
    run: DeviceRun, processes: int
) -> Generator[list[AnswerRecord], None, None]:
    """Batches from child processes as they come."""
    context = multiprocessing.get_context("spawn")
    children: dict[Pipe, BaseProcess] = {}
    # Ctrl-C reaches a whole terminal: children ignore it, from their first instruction on, and
    # are stopped by this process.
    at_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for place in range(processes):
            users = run.users[place::processes]
            if not users:
                continue
            ours, theirs = context.Pipe(duplex=False)
            part = replace(run, users=users)
            child = context.Process(target=Pinned(_run_child), args=(part, theirs), daemon=True)
            child.start()
            theirs.close()
            children[ours] = child
    finally:
        signal.signal(signal.SIGINT, at_interrupt)
    try:
        open_pipes = list(children)
        while open_pipes:
            for pipe in wait(open_pipes):
                assert isinstance(pipe, Pipe)
                message = _received(pipe, children[pipe])
                if message is None:
                    open_pipes.remove(pipe)
                else:
                    yield message
    finally:
        for started in children.values():
            started.terminate()
        for started in children.values():
            started.join()


def _received(pipe: Pipe, child: BaseProcess) -> list[AnswerRecord] | None:
    """A batch, or None when the child has finished. Raises what the child raised."""
    try:
        message: list[AnswerRecord] | VicinalError | None = pipe.recv()
    except EOFError:
        child.join()
        raise VicinalError(
            f"device process {child.pid} ended without an answer (exit code {child.exitcode})"
        ) from None
    if isinstance(message, VicinalError):
        raise message
    return message


def _run_child(run: DeviceRun, pipe: Pipe) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_with(parent.sentinel)
    limit_threads()
    try:
        local: LocalRatings = read_local_ratings(run.ratings, run.users)
        with Connection(run.server, access=run.access, budget=run.budget) as connection:
            session = _session(run, connection, local)
            for batch in session.answer(run.users):
                pipe.send(batch)
        pipe.send(None)
    except VicinalError as error:
        pipe.send(error)
