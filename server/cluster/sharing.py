"""A version on its way between a server's serving folder and what all servers share."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common.errors import InputError
from common.files import make_folder, read_file, read_number, write_file
from common.versions.version import MAX_BYTES
from server.cluster.blobs import BlobsAwayError, BlobStore
from server.cluster.registry import Files, Kept, Registry, Shared
from server.versions.files import DEVICES_FILE, MODEL_FILE, SERVER_FILE, server_file
from server.versions.folder import (
    DESCRIPTION_FILE,
    EDITION_FILE,
    ELIGIBLE_FILE,
    FORMS_FOLDER,
    PUBLICATION_FILE,
    SURVEY_FILE,
    read_description,
    read_edition,
)

IDS: Final = "ids"
_MOST: Final = 2 * MAX_BYTES


def share(
    folder: Path, version: str, ids: Path, blobs: BlobStore, registry: Registry, fence: int
) -> None:
    """Let all servers have a version as it is in a serving folder, in its last edition.

    ids  where the server keeps the order of users and items, if they have ids

    Raises TurnOverError, SqlError, BlobsAwayError, InputError, OSError.
    """
    description, _ = read_description(folder, version)
    edition = read_edition(folder, version).number
    files: dict[str, Kept] = {}
    for name, path in _parts(folder, version, edition):
        data = read_file(path, most=_MOST)
        files[name] = Kept(blobs.put(data), len(data))
    if ids.is_file():
        data = read_file(ids, most=_MOST)
        files[IDS] = Kept(blobs.put(data), len(data))
    spare = registry.stage(version, description.publication, edition, files, fence)
    for digest in spare:
        blobs.delete(digest)


def fetch(
    folder: Path, shared: Shared, ids: Path, store: Path, secret: bytes, blobs: BlobStore
) -> None:
    """Put a version of other servers into a serving folder, or its last edition.

    store   of this server, whose own publications come after this one
    secret  of which users' devices have a key each

    What is there already stays. Raises BlobsAwayError, InputError, OSError; the version is whole in
    the folder, or has no description there.
    """
    own = folder / shared.version
    make_folder(folder)
    make_folder(own)
    # Last what others take as a sign that all is there.
    order = sorted(shared.files, key=lambda name: (name == EDITION_FILE, name == DESCRIPTION_FILE))
    for name in order:
        if name == IDS and shared.replaced is not None:
            # There are more of them by now.
            continue
        kept = shared.files[name]
        path = ids if name == IDS else folder / name if "/" in name else own / name
        if name in (IDS, EDITION_FILE, DESCRIPTION_FILE) or not _there(path, kept):
            data = blobs.get(kept.digest, kept.size)
            if name == DESCRIPTION_FILE:
                write_file(own / DEVICES_FILE, secret)
            write_file(path, data)
    description, _ = read_description(folder, shared.version)
    if description.version != shared.version or description.publication != shared.publication:
        raise InputError(f"version {shared.version[:12]}: its description is of another one")
    path = store / PUBLICATION_FILE
    if read_number(path) < shared.publication <= time.time() + 86_400:
        write_file(path, f"{shared.publication}\n".encode())


def held(folder: Path, shared: Shared) -> bool:
    """Whether a version, in an edition as new, is in a serving folder."""
    try:
        description, _ = read_description(folder, shared.version)
        number = read_edition(folder, shared.version).number
    except InputError:
        return False
    return number >= shared.edition and description.publication >= shared.publication


def require_parts(files: Files) -> None:
    """Raises BlobsAwayError for a list that lacks what every version has."""
    missing = {MODEL_FILE, SERVER_FILE, DESCRIPTION_FILE, ELIGIBLE_FILE} - set(files)
    if missing:
        raise BlobsAwayError(f"a version in the database lacks {sorted(missing)[0]}")


def _parts(folder: Path, version: str, edition: int) -> Iterator[tuple[str, Path]]:
    own = folder / version
    description, _ = read_description(folder, version)
    names = [MODEL_FILE, SERVER_FILE, DESCRIPTION_FILE, ELIGIBLE_FILE]
    if edition:
        names += [server_file(edition), EDITION_FILE]
    if (own / SURVEY_FILE).is_file():
        names.append(SURVEY_FILE)
    for name in names:
        yield name, own / name
    forms = [form.digest for form in description.all_forms]
    for digest in (*forms, *(way.digest for way in description.transfers)):
        # A delta is made where it is asked for.
        path = folder / FORMS_FOLDER / digest
        if path.is_file():
            yield f"{FORMS_FOLDER}/{digest}", path


def _there(path: Path, kept: Kept) -> bool:
    """Of the others: they never change, and are whole where they are."""
    return path.is_file() and path.stat().st_size == kept.size
