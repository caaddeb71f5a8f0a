"""The files of a fleet: what its server app, its client apps and `flwr run` read.

FOLDER/deployment/                 the server's (server.versions.deployment), with a book or without
FOLDER/devices/P-of-N.safetensors  client P's own ratings and held-out items
FOLDER/run-config.toml             the server app's run config, for `flwr run --run-config`
FOLDER/models/DIGEST.safetensors   the model version, once for all clients
FOLDER/result.json                 where the server app writes what it counted
FOLDER/result.progress.jsonl       what was counted so far, while not everybody has answered
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import tomli_w

from client.stores.ratings import LocalRatings, write_local_ratings
from client.stores.versions import VersionStore
from common.errors import InputError
from common.files import make_folder, stored_secret, write_file
from common.vicinal.book import ItemBook
from common.vicinal.settings import VicinalSettings
from common.wire.book import encode_book
from common.wire.fleet import partition_file_name
from server.recommending.recommender import Recommender
from server.versions.deployment import BOOK_FILE, write_deployment
from server.versions.files import DEVICES_FILE


@dataclass(frozen=True)
class FleetFiles:
    """Where everything lies, absolute: Flower's processes work elsewhere.

    run  what the result of this run, and of no other, is marked with
    """

    folder: Path
    run: str

    @classmethod
    def fresh(cls, folder: Path) -> Self:
        """Of a run that begins now."""
        return cls(folder.resolve(), secrets.token_hex(16))

    @property
    def run_config(self) -> Path:
        return self.folder / "run-config.toml"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"


def require_clients(clients: int, users: int, *, min_replies: int = 0) -> None:
    """Raises InputError for more clients than users, and for more replies than clients."""
    if not 1 <= clients <= users:
        raise InputError(f"{clients} clients for {users} users: choose 1–{users}")
    if min_replies > clients:
        raise InputError(f"min replies {min_replies}: there are {clients} clients")


def write_fleet_files(
    folder: Path,
    recommender: Recommender,
    local: LocalRatings,
    *,
    clients: int,
    preset: str,
    settings: VicinalSettings,
    watched: tuple[int, ...],
    list_length: int,
    options: Mapping[str, int | bool | str] | None = None,
    book: ItemBook | None = None,
) -> FleetFiles:
    """Write them for `clients` clients, who share out the real users among themselves.

    book  of the version, from which users are answered; None: from packages

    Raises InputError when there are more clients than users or k is too large, OSError when a
    file cannot be written.
    """
    users = recommender.user_count
    require_clients(clients, users)
    recommender.neighborhood(0, settings)  # refuses now what every client would be refused
    files = FleetFiles.fresh(folder)
    make_folder(files.folder)
    # A run that goes on has the devices of before.
    secret = stored_secret(files.folder / "deployment" / DEVICES_FILE)
    write_deployment(files.folder / "deployment", recommender, secret)
    path = files.folder / "deployment" / BOOK_FILE
    path.unlink(missing_ok=True)
    if book is not None:
        write_file(path, encode_book(book, recommender.version.digest))
    for partition in range(clients):
        own = local.of(range(partition, users, clients)).with_keys(secret)
        path = files.folder / "devices" / partition_file_name(partition, clients)
        write_local_ratings(path, own)
    # All clients of a machine, and the server, map this one file.
    keep_model(files, recommender)
    write_run_config(
        files,
        deployment=files.folder / "deployment",
        clients=clients,
        preset=preset,
        settings=settings,
        watched=watched,
        list_length=list_length,
        options=options,
    )
    return files


def keep_model(files: FleetFiles, recommender: Recommender) -> None:
    """Put a version where all clients of this machine map it. Raises OSError."""
    model = VersionStore(files.folder / "models").path(recommender.version.digest)
    if not model.exists():
        write_file(model, recommender.path.read_bytes())


def write_run_config(
    files: FleetFiles,
    *,
    deployment: Path,
    clients: int,
    preset: str,
    settings: VicinalSettings,
    watched: tuple[int, ...],
    list_length: int,
    options: Mapping[str, int | bool | str] | None = None,
) -> None:
    """Write the server app's run config for files that are there. Raises OSError."""
    config = {
        "run": files.run,
        "deployment": str(deployment),
        "device-ratings": str(files.folder / "devices"),
        "result": str(files.result),
        "clients": clients,
        "preset": preset,
        "neighbors": settings.neighbors,
        "steps": settings.steps,
        "unrated-weight": settings.unrated_weight,
        "min-support": settings.min_support,
        "neighbors-by": settings.neighbors_by,
        "assumed-fakes": settings.assumed_fakes,
        "row-cap": settings.row_cap,
        "fold-in": settings.fold_in,
        "list-length": list_length,
        "watched-items": " ".join(map(str, watched)),
        "models": str(files.folder / "models"),
        **(options or {}),
    }
    write_file(files.run_config, tomli_w.dumps(config).encode())
