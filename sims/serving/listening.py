"""What `vicinal serve` does once its folder is there: listen until it is told to stop.

Loaded only after the child that trained has ended (sims.serving.in_child).
"""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import typer
import uvloop

from common.addresses import join_address
from common.errors import InputError
from common.files import stored_secret, write_output
from common.processes import core_count
from server.front.doorman import DoorLimits
from server.front.endpoint import Listening
from server.front.rotation import Retraining
from server.front.run import FrontOptions, serve_front
from server.reports.tally import FILE_NAME, Tally, measured_by
from server.sql.postgresql import Database
from server.trust import receipts
from server.trust.budget_file import FILE_NAME as BUDGETS_FILE
from server.trust.budgets import Budget, kept_budget
from server.trust.guard import Guard
from server.trust.places import CallLimits
from server.trust.shared_budgets import SharedBudget
from server.trust.tls import Tls
from server.trust.tokens import TokenKeys
from server.versions.folder import NOTES_FILE, current_version, read_description
from server.workers.crew import QueueLimits
from sims.serving.shared_places import SharedPlaces
from sims.terminal import notes_wanted


@dataclass(frozen=True)
class Wanted:
    """The options of `vicinal serve` that say how it listens, under their names there."""

    host: str
    port: int
    port_file: Path | None
    tls: Tls | None
    keys: TokenKeys | None
    tally: Path | None
    workers: int | None
    queue: QueueLimits
    compiled: bool
    metrics_port: int | None
    user_rate: float | None
    daily_neighbors: int | None
    daily_exposure: int | None
    calls: CallLimits
    peer_bytes: float
    call_seconds: float
    grace: float
    retrain_every: float | None
    refresh_every: float | None
    shared: SharedPlaces | None = None
    shared_keys: bool = False


def listen(folder: Path, store: Path, wanted: Wanted) -> None:
    """Serve a folder until SIGTERM or SIGINT. Raises InputError, VicinalError."""
    description, eligible = read_description(folder, current_version(folder))
    notes = json.loads((folder / NOTES_FILE).read_bytes())

    if description.experiment:
        typer.echo(f"EXPERIMENT: {description.experiment}", err=True)
    for doubt in notes["warnings"]:
        typer.echo(f"warning: {doubt['text']}", err=True)

    def listening(port: int, metrics_port: int | None) -> None:
        address = join_address(wanted.host, port)
        typer.echo(f"listening on {address}  version {description.version[:12]}…")
        for line in [*notes["reading"], *notes["neighbors"]] if notes_wanted() else ():
            typer.echo(line)
        if metrics_port is not None:
            typer.echo(f"metrics on http://127.0.0.1:{metrics_port}/metrics")
        if wanted.port_file is not None:
            # Last, because it tells a waiting process that all is there.
            write_output(wanted.port_file, f"{port}\n".encode())

    shared = wanted.shared
    database = None if shared is None else Database(shared.database)
    tally = Tally(
        users=description.user_count,
        eligible=eligible,
        measured=measured_by(
            description.presets,
            description.watched,
            description.list_length,
            "rows" if description.book is None else "book",
        ),
        path=None if database else wanted.tally or _unlinked(store / FILE_NAME),
        database=database,
        # All servers go by one clock.
        clock=time.time if database is None else database.now,
    )
    retraining: Retraining | None = Retraining(
        notes["retrain"],
        wanted.retrain_every,
        notes["refresh"],
        wanted.refresh_every,
        notes["files"],
    )
    if notes["retrain"] is None and wanted.refresh_every is None:
        retraining = None
    with ExitStack() as stack:
        if database is not None:
            stack.enter_context(database)
        stack.enter_context(tally)
        limits = wanted.daily_neighbors, wanted.daily_exposure
        budget: Budget | None
        if database is None or limits == (None, None):
            budget = stack.enter_context(kept_budget(*limits, store / BUDGETS_FILE))
        else:
            budget = SharedBudget(database, *limits, clock=tally.now)
        receipt_key = stored_secret(store / receipts.FILE_NAME)
        membership = None
        if database is not None and shared is not None:
            receipt_key = database.secret("receipts", receipt_key)
            membership = shared.membership(
                database,
                folder=folder,
                store=store,
                address=join_address(wanted.host, wanted.port),
                keys=wanted.keys if wanted.shared_keys else None,
                grace=wanted.grace,
                trains=retraining is not None,
            )
        calls = wanted.calls
        front = FrontOptions(
            wanted.port,
            wanted.workers or core_count(),
            wanted.queue,
            wanted.metrics_port,
            wanted.grace,
            Listening(wanted.host, wanted.tls, DoorLimits.of(calls.total, wanted.peer_bytes)),
            Guard(wanted.keys, wanted.user_rate, budget, wanted.call_seconds, calls),
            receipt_key,
            wanted.compiled,
        )
        # A call takes less processor time on uvloop than on asyncio's own loop.
        serving = serve_front(
            folder, tally, front, retraining=retraining, membership=membership, listening=listening
        )
        uvloop.run(serving)


def _unlinked(path: Path) -> Path:
    """Raises InputError for a link where nobody has chosen the path."""
    if path.is_symlink():
        raise InputError(f"{path} is a link: name the file itself with --tally")
    return path
