"""How `vicinal serve --database` begins: with the version that other servers have, or the first."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import typer

from common.errors import InputError, VicinalError
from common.files import make_folder, remove_folder, require_ours, stored_secret, write_file
from server.cluster.blobs import BlobsAwayError, BlobStore
from server.cluster.registry import LEASE_SECONDS, Registry, TurnOverError, require_same
from server.cluster.sharing import fetch, require_parts, share
from server.model_store import ModelStore
from server.sql.postgresql import Database
from server.sql.statements import SqlError
from server.versions.files import DEVICES_FILE
from server.versions.folder import current_version, make_current
from sims.serving.prepare import Serving
from sims.serving.shared_places import IDS_FILE, SharedPlaces

WAIT_SECONDS: Final = 0.5


def join(
    places: SharedPlaces, serving: Serving, folder: Path, store: ModelStore, grace: float
) -> None:
    """Write the folder that is served: of the version that there is, else of one trained here.

    Raises InputError for a database of another data set, or of servers that serve something else;
    VicinalError, OSError.
    """
    require_ours(folder, "another --store")
    blobs = BlobStore(places.versions)
    dataset, served = serving.about()
    with Database(places.database) as database:
        require_same(
            database,
            "dataset",
            dataset,
            "its tables are of another data set: name another schema with ?schema=…",
        )
        registry = Registry(database, uuid.uuid4().hex, "", grace)
        try:
            _adopt(database, store.folder)
            _join(registry, blobs, serving, folder, store, served)
        except SqlError as error:
            raise InputError(f"{database.shown}: {error}") from None
        finally:
            with suppress(SqlError):
                registry.leave()
        write_file(folder / IDS_FILE, str(serving.ids).encode())


def _join(
    registry: Registry,
    blobs: BlobStore,
    serving: Serving,
    folder: Path,
    store: ModelStore,
    served: str,
) -> None:
    waits = False
    ids = store.folder / serving.ids
    while True:
        sight, others = registry.seen(), registry.others()
        current, same = sight.current, _served(registry.database) in (None, served)
        if not same and others:
            raise InputError(
                f"{registry.database.shown}: {others} servers there serve another model or other "
                "presets: give the same options, or stop them first"
            )
        if current is not None and same:
            remove_folder(folder)
            make_folder(folder)
            secret = stored_secret(store.folder / DEVICES_FILE)
            try:
                for one in sight.versions:
                    require_parts(one.files)
                    fetch(folder, one, ids, store.folder, secret, blobs)
            except BlobsAwayError as error:
                raise VicinalError(
                    f"{error}; if the place is lost for good, empty the table `versions` of the "
                    "database, and a server trains anew"
                ) from None
            make_current(folder, current.version)
            serving.follow(folder, store)
            return
        turn = registry.turn()
        if turn is not None:
            with _renewed(registry):
                serving.write(folder, store)
            _note_served(registry.database, served)
            try:
                share(folder, current_version(folder), ids, blobs, registry, turn.fence)
            except TurnOverError:
                raise InputError("another server trains by now: start this one again") from None
            return
        if not waits:
            typer.echo("another server trains the first version: waiting for it", err=True)
            waits = True
        time.sleep(WAIT_SECONDS)


@contextmanager
def _renewed(registry: Registry) -> Iterator[None]:
    """Keep the turn while something takes long."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE_SECONDS / 4):
            with suppress(SqlError):
                registry.turn()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _adopt(database: Database, store: Path) -> None:
    """Devices' keys are the same on all servers."""
    path = store / DEVICES_FILE
    own = stored_secret(path)
    shared = database.secret("devices", own)
    if shared != own:
        write_file(path, shared)


def _served(database: Database) -> str | None:
    with database.transaction() as sql:
        found = sql.execute("SELECT left(served, 1000000) FROM about").fetchone()[0]
    return None if found is None else str(found)


def _note_served(database: Database, served: str) -> None:
    with database.transaction() as sql:
        sql.execute("UPDATE about SET served = ?", (served,))
