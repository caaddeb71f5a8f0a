"""What a server needs to answer for a fleet, as a folder that another machine can read.

    FOLDER/model.safetensors    the model version's bytes
    FOLDER/server.safetensors   user parameters and training ratings, which never leave, and how
                                neighbors are searched
    FOLDER/devices.key          the secret of which users' devices have a key each
    FOLDER/book                 of a fleet that is answered from it: the version's book

A model store belongs to one process at a time and holds no ratings; this is one version with
them. The files are mapped, not copied, by all who read them: nothing changes them in place.

Shapes: U users (real ones first), N ratings.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from common.errors import InputError
from common.files import read_secret, write_file, write_secret
from common.ratings import RatingMatrix
from common.tables import map_tables
from common.versions.version import map_version
from server.growing import as_trained
from server.model_store import StoredModel, split_user_tables, tables_digest, user_tables
from server.recommending.offload import search_named
from server.recommending.recommender import Recommender
from server.versions.files import DEVICES_FILE, MODEL_FILE, SERVER_FILE, server_file

BOOK_FILE: Final = "book"
_USER: Final = "user."


def write_deployment(folder: Path, recommender: Recommender, secret: bytes) -> None:
    """Write all that read_deployment needs, and the devices' secret.

    Raises OSError; each file is whole or absent.
    """
    write_file(folder / MODEL_FILE, recommender.stored.path.read_bytes())
    write_server(folder / SERVER_FILE, recommender)
    # It is there already when a training came to a version that is served.
    with suppress(FileExistsError):
        write_secret(folder / DEVICES_FILE, secret)


def write_server(path: Path, recommender: Recommender) -> None:
    """Write what never leaves the server. Raises OSError."""
    stored, ratings = recommender.stored, recommender.ratings
    users_own = {
        _USER + name: np.ascontiguousarray(table)
        for name, table in user_tables(stored.user_parameters, stored.left_out).items()
    }
    server: dict[str, NDArray[Any]] = {
        **users_own,
        "indptr": ratings.indptr,
        "items": ratings.items,
        "levels": ratings.levels,
        "users": np.array([recommender.user_count, stored.later], dtype=np.int64),
        "search": np.frombuffer(recommender.search.encode(), dtype=np.uint8),
        "version": np.frombuffer(bytes.fromhex(stored.version.digest), dtype=np.uint8),
    }
    write_file(path, save(server))


def deployed_secret(folder: Path) -> bytes:
    """The secret of a folder's devices. Raises InputError."""
    return read_secret(folder / DEVICES_FILE)


def read_deployment(
    folder: Path, edition: int = 0, before: Recommender | None = None
) -> Recommender:
    """The recommender of a folder, in one of its editions.

    Raises InputError when it is not whole or does not fit.
    """
    try:
        path = folder / server_file(edition)
        tables = map_tables(path, str(path))
        digest = tables["version"].tobytes().hex()
        version = map_version(folder / MODEL_FILE, expected_digest=digest)
        kept = {
            name.removeprefix(_USER): table
            for name, table in tables.items()
            if name.startswith(_USER)
        }
        user_count, later = tables["users"].tolist()
        users, left_out = split_user_tables(kept, version.manifest.users + later)
        ratings = RatingMatrix(
            tables["indptr"],
            tables["items"],
            tables["levels"],
            version.manifest.items,
            version.manifest.scale,
        )
        search = search_named(tables["search"].tobytes().decode())
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: not a deployment; prepare it again") from error
    if not 0 <= later < user_count <= ratings.user_count:
        raise InputError(f"{folder}: {user_count} real users of {ratings.user_count}")
    if later:
        kept = {**user_tables(*as_trained(users, left_out, user_count, later))}
    if tables_digest(kept) != version.manifest.user_digest:
        raise InputError(f"{folder}: its user parameters do not match its model version")
    stored = StoredModel(version, users, folder / MODEL_FILE, left_out, later)
    return Recommender(stored, ratings, user_count, search=search, before=before)
